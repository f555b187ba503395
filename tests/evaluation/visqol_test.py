"""ViSQOL against the package called by hand."""

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, resample
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.sound import visqol
from audiolm_jax.evaluation.sound.visqol import EXPONENTIAL, LATTICE, visqol_settings, visqol_speech
from tests.evaluation.speechlike import RATE_HZ, noisy, speechlike

api_module = pytest.importorskip("visqol.api")


def by_hand(reference, degraded, lattice=False):
    api = api_module.VisqolApi()
    api.create(mode="speech", use_lattice_model=lattice)
    return api.measure_from_arrays(reference.astype(np.float64), degraded.astype(np.float64), RATE_HZ)


def test_it_orders_degradations_and_tops_at_identity():
    samples = speechlike()
    scores = [visqol_speech(samples, noisy(samples, db)).moslqo for db in (30, 15, 0)]
    identity = visqol_speech(samples, samples)
    assert identity.moslqo == pytest.approx(5.0, abs=1e-3) and identity.similarity == pytest.approx(1.0, abs=1e-9)
    assert 5.0 > scores[0] > scores[1] > scores[2] >= 1.0
    assert visqol_speech(samples, np.zeros_like(samples)).moslqo == 1.0


def test_it_equals_the_package_called_by_hand():
    samples, degraded = speechlike(), noisy(speechlike(), 10)
    expected = by_hand(samples, degraded)
    assert visqol_speech(samples, degraded) == (expected.moslqo, expected.vnsim)
    # Signals of other lengths go in as they are: the package aligns them itself.
    delayed = np.concatenate([np.zeros(1600, np.float32), degraded])
    assert visqol_speech(samples, delayed).moslqo == by_hand(samples, delayed).moslqo


def test_the_mapping_is_that_of_the_paper_of_visqol():
    """MOS = (a + exp(b (x - x0))) scaled to 5 at identity, of the mean similarity x."""
    score = visqol_speech(speechlike(), noisy(speechlike(), 10))
    mos = 1.245063 * (-262.847869 + np.exp(0.0154302525 * (score.similarity + 361.063949)))
    assert score.moslqo == pytest.approx(mos, abs=1e-6)


def test_other_rates_are_resampled():
    samples = resample(Waveform(speechlike(), RATE_HZ), 24_000).samples
    score = visqol_speech(samples, noisy(samples, 10), 24_000)
    assert 1 < score.moslqo < 5
    assert visqol_speech(samples, samples, 24_000).moslqo == pytest.approx(5.0, abs=1e-3)


@pytest.mark.parametrize(
    ("reference", "message"),
    [(speechlike(0.9), "at least 1 s"), (np.zeros(RATE_HZ * 2), "silent"), (np.ones(RATE_HZ * 301), "got 301 s")],
)
def test_what_it_cannot_compare(reference, message):
    with pytest.raises(ValueError, match=message):
        visqol_speech(reference, reference)


def test_lattice_equals_the_package_or_says_what_to_install():
    samples, degraded = speechlike(), noisy(speechlike(), 10)
    assert visqol_settings(LATTICE)["visqol_mapping"] == "lattice"
    try:
        import ai_edge_litert  # noqa: F401
    except ImportError:
        visqol._visqol.cache_clear()
        with pytest.raises(UserError, match=r"pip install 'audiolm_jax\[lattice\]'"):
            visqol_speech(samples, degraded, mapping=LATTICE)
        return
    expected = by_hand(samples, degraded, lattice=True).moslqo
    assert visqol_speech(samples, degraded, mapping=LATTICE).moslqo == expected
    assert visqol_speech(samples, degraded, mapping=EXPONENTIAL).moslqo != expected
    assert visqol_speech(samples, samples, mapping=LATTICE).moslqo > expected
