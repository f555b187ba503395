"""Fréchet audio distance against SciPy's matrix root, closed forms and simulated sets."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.linalg

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.recordings import Recording, find_recordings
from audiolm_jax.evaluation.sound.embeddings import Embeddings, embed_recordings, holds_embeddings, read_embeddings
from audiolm_jax.evaluation.sound.frechet import frechet_distance, measure
from tests.tiny_system import tiny_tokenizers

RATE_HZ = 16_000


def by_definition(a, b):
    """FAD of rows [N, D] by the square root of the product of covariances."""
    covariances = [np.cov(rows, rowvar=False) for rows in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    difference = a.mean(axis=0) - b.mean(axis=0)
    return difference @ difference + np.trace(covariances[0] + covariances[1] - 2 * root)


def in_recordings(rows, recordings=10, per_speaker=2, prefix="s"):
    """Rows shared out among recordings of speakers."""
    parts = np.array_split(rows, recordings)
    keys = [f"{prefix}{number // per_speaker}/{number}" for number in range(recordings)]
    return Embeddings(dict(zip(keys, parts, strict=True)), {key: key.split("/")[0] for key in keys})


def two_sets(seed=0, rows=200, dimension=6):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dimension, dimension))
    return rng.normal(size=(rows, dimension)), rng.normal(size=(rows + 31, dimension)) @ mix + 0.5


def test_distance_equals_the_matrix_root():
    a, b = two_sets()
    expected = by_definition(a, b)
    assert measure(in_recordings(a), in_recordings(b)).figures["fad"] == pytest.approx(expected, rel=1e-10)
    # Far from the origin, where sums of squares would lose digits.
    far = measure(in_recordings(a + 1e5), in_recordings(b + 1e5)).figures["fad"]
    assert far == pytest.approx(expected, rel=1e-7)


def test_distance_of_normal_distributions_in_closed_form():
    variances = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 1.0])
    means = np.zeros(3), np.array([3.0, 0.0, 4.0])
    # Diagonal covariances: the sum of (difference of means)^2 and (difference of deviations)^2.
    distance = frechet_distance(means[0], np.diag(variances[0]), means[1], np.diag(variances[1]))
    assert distance == pytest.approx(25 + 1 + 0 + 4, rel=1e-12)
    turn = scipy.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = frechet_distance(
        turn @ means[0], turn @ np.diag(variances[0]) @ turn.T, turn @ means[1], turn @ np.diag(variances[1]) @ turn.T
    )
    assert turned == pytest.approx(30, rel=1e-12)


def test_identical_sets_are_at_zero_without_full_rank_too():
    rng = np.random.default_rng(0)
    for rows in (rng.normal(size=(90, 20)), rng.normal(size=(10, 20)), rng.normal(size=(90, 1)) * np.ones(20)):
        measured = measure(in_recordings(rows), in_recordings(rows))
        assert measured.figures["fad"] == pytest.approx(0, abs=1e-9)
        # The sets share their speakers, so they are the same in every resample.
        assert measured.intervals["fad"] == pytest.approx((0, 0), abs=1e-9)
    # One direction only: two rank-one covariances at an angle of 60 degrees.
    first, second = np.array([1.0, 0.0]), np.array([0.5, np.sqrt(0.75)])
    distance = frechet_distance(np.zeros(2), np.outer(first, first), np.zeros(2), np.outer(second, second))
    assert distance == pytest.approx(1 + 1 - 2 * 0.5, abs=1e-12)


def test_order_of_recordings_changes_nothing():
    a, b = (in_recordings(rows, 24) for rows in two_sets())
    backwards = [
        Embeddings(dict(reversed(both.by_key.items())), dict(reversed(both.speaker_of.items()))) for both in (a, b)
    ]
    measured, other = measure(a, b), measure(*backwards)
    assert measured == other
    assert measured.figures["fad_infinity"] is not None
    assert measure(a, b, seed=1).figures["fad"] == measured.figures["fad"]
    assert measure(a, b, seed=1).intervals != measured.intervals


def test_intervals_resample_speakers_and_both_sets_at_once():
    """Two speakers: a resample is both, or one of them twice."""
    rng = np.random.default_rng(0)
    a, b = (in_recordings(rng.normal(size=(80, 3)) * scale, 4, 2) for scale in (1.0, 2.0))
    measured = measure(a, b)
    value = measured.figures["fad"]

    def of_speaker(name):
        return by_definition(*(np.concatenate([np.tile(rows, (2, 1)) for key, rows in both.by_key.items()
                                               if key.startswith(name)]) for both in (a, b)))  # fmt: skip

    resamples = np.array([of_speaker("s0"), of_speaker("s1"), value])
    low, high = measured.intervals["fad"]
    assert high - low == pytest.approx(resamples.max() - resamples.min(), rel=1e-9)
    assert measured.settings["resampled"] == "speaker" and measured.counts["units"] == 2

    made = {f"x#{n}": "x" for n in range(len(a.by_key))}
    one = [Embeddings(dict(zip(made, both.by_key.values(), strict=True)), source_of=made) for both in (a, b)]
    alone = measure(*one)
    assert alone.counts["units"] == 1 and alone.intervals == {} and alone.settings["resampled"] == "recording"
    assert alone.figures["fad"] == pytest.approx(value, rel=1e-12)


def test_sets_of_other_speakers_are_drawn_by_themselves():
    """A single speaker cannot be drawn again; only the other set varies."""
    rng = np.random.default_rng(0)
    a = {f"a{n}/x": rng.normal(size=(20, 2)) for n in range(2)}
    fixed = {f"b{n}/x": np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) for n in range(2)}
    sets = [Embeddings(both, {key: key[:2] for key in both}) for both in (a, fixed)]
    measured = measure(*sets)
    pairs = [np.concatenate([a[f"a{i}/x"], a[f"a{j}/x"]]) for i, j in ((0, 0), (0, 1), (1, 1))]
    resamples = [by_definition(rows, np.concatenate(list(fixed.values()))) for rows in pairs]
    low, high = measured.intervals["fad"]
    assert measured.counts["units"] == 4
    assert high - low == pytest.approx(max(resamples) - min(resamples), rel=1e-9)


def test_infinity_takes_the_bias_of_small_sets_off():
    rng = np.random.default_rng(0)
    dimension, rows = 16, 128
    true = dimension  # means 1 apart in every dimension, equal covariances
    fads, infinities, inside = [], [], 0
    for _ in range(6):
        a, b = rng.normal(size=(rows, dimension)), rng.normal(size=(rows, dimension)) + 1
        measured = measure(in_recordings(a, 32, 1, "a"), in_recordings(b, 32, 1, "b"))
        fads.append(measured.figures["fad"])
        infinities.append(measured.figures["fad_infinity"])
        low, high = measured.intervals["fad_infinity"]
        inside += low <= true <= high
        assert measured.intervals["fad"][0] < measured.figures["fad"] < measured.intervals["fad"][1]
        assert [row["parts"] for row in measured.details["growth"]] == [1, 2, 3, 4]
    assert np.mean(fads) > true + 1
    assert abs(np.mean(infinities) - true) < 0.5
    assert inside >= 5


def test_small_sets_are_told():
    rng = np.random.default_rng(0)
    measured = measure(in_recordings(rng.normal(size=(12, 20))), in_recordings(rng.normal(size=(30, 20))))
    assert measured.figures["fad_infinity"] is None
    notes = " ".join(measured.notes)
    assert "12 embeddings of 20 numbers" in notes and "needs 80 embeddings" in notes
    few = measure(in_recordings(rng.normal(size=(90, 2)), 4), in_recordings(rng.normal(size=(90, 2)), 4))
    assert "needs 8 speakers" in " ".join(few.notes)
    with pytest.raises(UserError, match="fewer than two"):
        measure(Embeddings({"a": np.ones((1, 2))}), Embeddings({"a": np.ones((5, 2))}))
    with pytest.raises(UserError, match="different lengths: 2, 3"):
        measure(Embeddings({"a": np.ones((5, 2))}), Embeddings({"a": np.ones((5, 3))}))


def test_ready_embeddings_from_files(tmp_path, capsys):
    a, b = two_sets()
    for folder, rows in (("a", a), ("b", b)):
        (tmp_path / folder / "s1").mkdir(parents=True)
        np.save(tmp_path / folder / "s1" / "x.npy", rows[:50].astype(np.float32))
        np.savez(tmp_path / folder / "y.npz", rows[50:-1])
        np.save(tmp_path / folder / "z.npy", rows[-1])
    command = ["eval", "fad", "--reference", f"{tmp_path}/a", "--generated", f"{tmp_path}/b", "--json", "-"]
    assert cli.main(command) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["fad"] == pytest.approx(by_definition(a, b), rel=1e-5)
    assert figures["counts"]["reference_embeddings"] == 200 and figures["counts"]["reference_recordings"] == 3
    assert figures["settings"]["embedding"] == "ready, from files"

    write_audio(tmp_path / "audio" / "x.wav", Waveform(np.zeros(RATE_HZ * 2), RATE_HZ))
    command[3] = f"{tmp_path}/audio"
    assert cli.main(command) == 2
    assert "one folder holds audio and the other embeddings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[1.0, np.nan]]), "NaN"),
        (np.zeros((2, 3, 4)), r"\[2, 3, 4\]; numbers \[N, D\]"),
        (np.zeros((0, 3)), "at least 1"),
        (np.array(["text"]), r"numbers \[N, D\]"),
        (np.array([{"a": 1}], dtype=object), "plain numbers"),
    ],
)
def test_bad_files_are_one_line(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        read_embeddings(tmp_path)


def test_bad_folders_are_one_line(tmp_path):
    with pytest.raises(UserError, match="neither audio"):
        holds_embeddings(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        holds_embeddings(tmp_path / "nowhere")
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    np.save(tmp_path / "y.npy", np.ones((2, 4)))
    with pytest.raises(UserError, match=r"y\.npy holds vectors of 4 numbers"):
        read_embeddings(tmp_path)
    (tmp_path / "y.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match="not a NumPy file"):
        read_embeddings(tmp_path)
    np.savez(tmp_path / "y.npz", np.ones(3), np.ones(3))
    (tmp_path / "y.npy").unlink()
    with pytest.raises(UserError, match="holds 2 arrays"):
        read_embeddings(tmp_path)
    (tmp_path / "y.npz").write_bytes((tmp_path / "y.npz").read_bytes()[:100])
    with pytest.raises(UserError, match="not a NumPy file"):
        read_embeddings(tmp_path)
    write_audio(tmp_path / "x.wav", Waveform(np.zeros(RATE_HZ), RATE_HZ))
    with pytest.raises(UserError, match="both audio and"):
        holds_embeddings(tmp_path)


@pytest.fixture(scope="module")
def noises(tmp_path_factory):
    """Three recordings, one of another rate and one too short."""
    root = tmp_path_factory.mktemp("noises")
    rng = np.random.default_rng(0)
    write_audio(root / "s1" / "long.wav", Waveform(0.1 * rng.normal(size=RATE_HZ * 34 + 999), RATE_HZ))
    write_audio(root / "s1" / "half.wav", Waveform(0.1 * rng.normal(size=8_000 * 2), 8_000))
    write_audio(root / "s2" / "short.wav", Waveform(0.1 * rng.normal(size=RATE_HZ - 1), RATE_HZ))
    return find_recordings([root], 0)


def test_a_hash_in_a_file_name_is_part_of_it(noises):
    """Recordings "take#1" and "take#2" are two units; samples of one recording are one."""
    path = next(noise.path for noise in noises if noise.key == "s1/half")
    takes = [Recording(f"take#{number}", f"take#{number}", path) for number in (1, 2)]
    samples = [takes[0].sample(path, index) for index in (0, 1)]
    for recordings, units in ((takes, 2), (samples, 1)):
        found = dataclasses.replace(embed_recordings(recordings, "log_mel"), speaker_of={})
        assert measure(found, found).counts["units"] == units


def test_log_mel_statistics_of_seconds(noises):
    found = embed_recordings(noises, "log_mel")
    assert {key: vectors.shape for key, vectors in found.by_key.items()} == {"s1/long": (34, 128), "s1/half": (2, 128)}
    assert found.speaker_of == {"s1/long": "s1", "s1/half": "s1"}
    assert any("1 of 3 recordings were resampled" in note for note in found.notes)
    assert any("1 of 3 recordings are shorter" in note for note in found.notes)
    # A window's vector is its own: 34 windows go through in two batches.
    long = next(recording for recording in noises if recording.key == "s1/long")
    assert embed_recordings([long], "log_mel").by_key["s1/long"] == pytest.approx(found.by_key["s1/long"])
    # White noise of one loudness: bands alike over time, deviation that of the log of a few bins' mean power.
    means, deviations = np.split(found.by_key["s1/long"], 2, axis=1)
    assert np.ptp(means[:, 40]) < 0.3 and 0.05 < deviations.mean() < 0.6


def test_a_gain_moves_the_means_of_log_mel_only(tmp_path):
    samples = 0.3 * np.clip(np.random.default_rng(0).normal(size=RATE_HZ * 3), -3, 3)
    for name, gain in (("loud", 1.0), ("quiet", 0.5)):
        write_audio(tmp_path / name / "x.wav", Waveform(samples * gain, RATE_HZ))
    loud, quiet = (
        embed_recordings(find_recordings([tmp_path / name], 0), "log_mel").by_key["x"] for name in ("loud", "quiet")
    )
    np.testing.assert_allclose((loud - quiet)[:, :64], np.log(2), atol=0.02)
    np.testing.assert_allclose((loud - quiet)[:, 64:], 0, atol=0.02)


def test_semantic_and_speaker_embeddings_need_their_parts(noises):
    bundle = tiny_tokenizers()
    found = embed_recordings([noise for noise in noises if noise.key != "s1/long"], "semantic", bundle)
    assert found.by_key["s1/half"].shape == (2, 8) and found.settings["bundle"] == "tiny"
    with pytest.raises(UserError, match="carries no speaker"):
        embed_recordings(noises, "speaker", bundle)
    with pytest.raises(UserError, match="needs a bundle"):
        embed_recordings(noises, "semantic")
    with pytest.raises(UserError, match="none of 1 recordings"):
        embed_recordings([r for r in noises if r.speaker == "s2"], "log_mel")
