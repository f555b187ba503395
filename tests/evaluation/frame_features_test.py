"""Features from folders of arrays and from a bundle's tokenizers."""

from fractions import Fraction

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.codec import quantizer
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.abx.frame_features import bundle_features, folder_features
from tests.tiny_system import tiny_tokenizers

FRAMES = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_arrays_are_found_in_folders_and_keep_float64(tmp_path):
    (tmp_path / "below").mkdir()
    np.save(tmp_path / "single.npy", FRAMES)
    np.save(tmp_path / "below" / "double.npy", FRAMES.astype(np.float64))
    np.save(tmp_path / "half.npy", FRAMES.astype(np.float16))
    np.save(tmp_path / "whole.npy", FRAMES.astype(np.int32))
    np.savez(tmp_path / "zipped.1.npz", FRAMES, FRAMES + 1)
    np.save(tmp_path / ".hidden.npy", FRAMES)
    features = folder_features(tmp_path)
    assert features.names == ["double", "half", "single", "whole", "zipped.1"]
    assert features.feature_seconds is None
    for name in features.names:
        loaded = features.load(name)
        assert loaded.dtype == (np.float64 if name == "double" else np.float32)
        np.testing.assert_array_equal(loaded, FRAMES)


WRONG = {
    "pickled": (lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True), "never read"),
    "not_numpy": (lambda path: path.write_text("words"), "never read|not a NumPy file"),
    "empty": (lambda path: path.write_bytes(b""), "not a NumPy file"),
    "cut": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "not a NumPy file"),
    "flat": (lambda path: np.save(path, FRAMES.ravel()), r"shape \[12\]"),
    "deep": (lambda path: np.save(path, FRAMES[None]), r"shape \[1, 4, 3\]"),
    "no_columns": (lambda path: np.save(path, FRAMES[:, :0]), r"shape \[4, 0\]"),
    "text": (lambda path: np.save(path, np.array([["a"]])), "float32"),
    "complex": (lambda path: np.save(path, FRAMES * 1j), "float32"),
    "nan": (lambda path: np.save(path, np.where(FRAMES == 7, np.nan, FRAMES)), "first in frame 2"),
    "infinite": (lambda path: np.save(path, np.where(FRAMES == 0, np.inf, FRAMES)), "first in frame 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_array_of_frames_is_one_line_with_its_name(name, tmp_path):
    write, words = WRONG[name]
    write(tmp_path / f"{name}.npy")
    features = folder_features(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        features.load(name)
    assert f"{name}.npy" in str(caught.value) and "\n" not in str(caught.value)


def test_folders_without_arrays_and_double_names(tmp_path):
    with pytest.raises(UserError, match="not a folder"):
        folder_features(tmp_path / "none")
    with pytest.raises(UserError, match="no feature files"):
        folder_features(tmp_path)
    np.save(tmp_path / "a.npy", FRAMES)
    np.savez(tmp_path / "a.npz", FRAMES)
    with pytest.raises(UserError, match="one name"):
        folder_features(tmp_path).load("a")
    np.savez(tmp_path / "none.npz")
    with pytest.raises(UserError, match="no array"):
        folder_features(tmp_path).load("none")


@pytest.fixture(scope="module")
def bundle():
    return tiny_tokenizers()


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    (folder / "anna").mkdir()
    write_audio(folder / "anna" / "a.wav", Waveform(0.1 * rng.normal(size=30_000).astype(np.float32), 16_000))
    write_audio(folder / "b.wav", Waveform(0.1 * rng.normal(size=8_000).astype(np.float32), 8_000))
    return folder


def samples_of(folder):
    from audiolm_jax.audio import read_audio

    return read_audio(folder / "anna" / "a.wav").samples


def test_semantic_features_are_what_is_clustered(bundle, audio):
    semantic = bundle_features(bundle, audio, "semantic")
    centroids = bundle_features(bundle, audio, "centroids")
    assert semantic.names == ["a", "b"] and semantic.feature_seconds == Fraction(1, 25)
    frames = semantic.load("a")
    book = bundle.semantic_params["centroids"]
    nearest = np.argmin(((frames[:, None] - book[None]) ** 2).sum(-1), axis=1)
    np.testing.assert_array_equal(nearest, bundle.semantic.tokenize(bundle.semantic_params, samples_of(audio)[None])[0])
    np.testing.assert_array_equal(centroids.load("a"), book[nearest])


def test_another_layer_is_another_output_of_the_encoder(bundle, audio):
    raw = bundle_features(bundle, audio, "semantic", layer=2)
    assert raw.settings["standardised"] is False
    # The tiny tokenizer clusters layer 2 with mean 0 and deviation 1.
    np.testing.assert_array_equal(raw.load("a"), bundle_features(bundle, audio, "semantic").load("a"))
    assert not np.allclose(bundle_features(bundle, audio, "semantic", layer=1).load("a"), raw.load("a"))


def test_codec_embeddings_are_what_the_decoder_is_given(bundle, audio):
    tokens = np.asarray(bundle.codec.encode(bundle.codec_params, samples_of(audio)[None]))
    for levels in (1, 4):
        features = bundle_features(bundle, audio, "codec", num_quantizers=levels)
        assert features.feature_seconds == Fraction(320, 16_000)
        expected = quantizer.decode(tokens[:, :, :levels], bundle.codec_params["codebooks"])[0]
        np.testing.assert_allclose(features.load("a"), expected, atol=1e-6)


def test_other_rates_are_resampled_and_remembered(bundle, audio):
    features = bundle_features(bundle, audio, "centroids")
    features.load("a")
    assert not features.resampled
    assert len(features.load("b")) == 25  # one second
    assert features.resampled == {"b"}


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"representation": "loud"}, "not one of"),
        ({"representation": "codec", "layer": 1}, "--layer"),
        ({"representation": "semantic", "layer": 9}, "layer 9"),
        ({"representation": "semantic", "num_quantizers": 2}, "--num_quantizers"),
        ({"representation": "codec", "num_quantizers": 5}, "4 levels"),
    ],
)
def test_choices_that_do_not_go_together(choice, words, bundle, audio):
    with pytest.raises(UserError, match=words):
        bundle_features(bundle, audio, **choice)
