"""`benchmarks/scale.py` counts bytes, operations and hours."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "scale.py"


@pytest.fixture(scope="module")
def scale():
    spec = importlib.util.spec_from_file_location("scale", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_amounts_have_prefixes(scale):
    assert scale.amount(3.406e12, "B") == "3.41 TB"
    assert scale.amount(155.5e6, "") == "156 M"
    assert scale.amount(12, "B") == "12 B"


def test_chip_hours_are_operations_over_the_share_of_the_peak(scale):
    v4 = dict(zip(scale.CHIPS, scale.chip_hours(275e12 * 3600, 0.5), strict=True))["v4"]
    assert v4 == pytest.approx(2.0)


def test_random_codes_cannot_be_stored_below_their_entropy(scale):
    semantic, codec = scale.paper_sizes()
    entropy = 10 / 8 * (25 + 600)
    assert entropy < scale.random_record_bytes(semantic, codec, num_records=4) < 16 / 10 * entropy * 1.1


def test_a_stage_of_the_paper_has_its_batch_and_adams_moments(scale):
    built, state, batch = scale.build("coarse_librilight_paper")
    assert built.options.steps == 1_000_000 and {leaf.shape[0] for leaf in batch.values()} == {256}
    assert 12 <= scale.state_bytes(state) / scale.parameters(state) < 12.1


def test_a_roofline_becomes_chip_hours(scale):
    step = {"name": "train", "needed_bytes": 20 * 2**30, "roofline": {"times": {"step_seconds": 0.36}, "mfu": 0.5}}
    report = {"experiment": "fine_librilight_paper", "topology": "v4:2x2x4", "num_chips": 16, "fits": True}
    row = scale.check_row(report | {"steps": [step]})
    assert row == ("`fine_librilight_paper`", "v4:2x2x4", "20.0", "0.36", "50%", "1,600", "4.2")
    assert "does not fit" in scale.check_row(report | {"fits": False, "steps": [step]})[2]


def test_operations_of_a_codec_are_those_of_its_last_phase(scale):
    flops, steps = scale.step_flops("codec_small")
    built, _, batch = scale.build("codec_small")
    assert steps == built.options.steps
    # A forward pass of the generator and its gradient take some ten operations a weight and frame; the discriminators
    # and the spectra of the loss take several times that.
    frames = batch["samples"].size // built.learner.config.hop_samples
    assert flops > 10 * frames * 5e6
