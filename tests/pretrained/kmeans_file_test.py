"""Centroids out of the files that scikit-learn's users have; both libraries come with librosa."""

import os
import tracemalloc

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans

from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.files.kmeans_file import read_centroids

FEATURES = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)


@pytest.mark.parametrize("protocol", [None, 2, 4])
@pytest.mark.parametrize(
    "model",
    [
        MiniBatchKMeans(5, random_state=np.random.RandomState(1), n_init=1),
        KMeans(5, n_init=1, random_state=0),
    ],
    ids=["mini_batch", "lloyd"],
)
def test_centroids_of_a_fitted_model(tmp_path, model, protocol):
    model.fit(FEATURES)
    joblib.dump(model, tmp_path / "km.bin", protocol=protocol)
    centroids = read_centroids(tmp_path / "km.bin")
    assert centroids.dtype == np.float32
    np.testing.assert_array_equal(centroids, model.cluster_centers_)


def test_arrays_alone_are_taken_too(tmp_path):
    np.save(tmp_path / "km.npy", FEATURES.astype(np.float64))
    np.testing.assert_array_equal(read_centroids(tmp_path / "km.npy"), FEATURES)
    joblib.dump(FEATURES, tmp_path / "km.bin")
    np.testing.assert_array_equal(read_centroids(tmp_path / "km.bin"), FEATURES)


def test_code_is_named_and_not_run(tmp_path):
    mark = tmp_path / "was_run"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    model = KMeans(2, n_init=1).fit(FEATURES)
    model.extra = Evil()
    joblib.dump(model, tmp_path / "km.bin")
    with pytest.raises(UserError, match=r"would run (posix|nt)\.system .*numpy\.save"):
        read_centroids(tmp_path / "km.bin")
    np.save(tmp_path / "km.npy", np.array([Evil()], object), allow_pickle=True)
    with pytest.raises(UserError, match="damaged or no k-means file"):
        read_centroids(tmp_path / "km.npy")
    assert not mark.exists()


def test_what_holds_no_centroids_is_refused_in_one_line(tmp_path):
    path = tmp_path / "km.bin"
    joblib.dump(KMeans(2, n_init=1), path)
    with pytest.raises(UserError, match="no k-means with cluster_centers_"):
        read_centroids(path)
    model = KMeans(2, n_init=1).fit(FEATURES)
    joblib.dump(model, path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"numpy\.save") as caught:
            read_centroids(path)
        assert "\n" not in str(caught.value)
    joblib.dump(model, path, compress=3)
    with pytest.raises(UserError, match="compressed"):
        read_centroids(path)
    np.save(tmp_path / "km.npy", np.full((2, 3), np.nan))
    with pytest.raises(UserError, match="not centroids"):
        read_centroids(tmp_path / "km.npy")
    with pytest.raises(UserError, match="there is no k-means file"):
        read_centroids(tmp_path / "none.bin")


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"x.",  # a text of a terabyte
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",
        b"\x80\x02\x8b\xff\xff\xff\x7fx.",
    ],
    ids=["text", "bytes", "number"],
)
def test_a_length_beyond_the_file_is_not_allocated(pickled, tmp_path):
    (tmp_path / "km.bin").write_bytes(pickled)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="damaged or no file of this format"):
            read_centroids(tmp_path / "km.bin")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_arrays_that_are_no_centroids_are_told(tmp_path):
    for array in (np.zeros((0, 4)), np.full((2, 2), 1e300), np.zeros((2, 2), complex), np.zeros((2, 2), "V3")):
        np.save(tmp_path / "km.npy", array)
        with pytest.raises(UserError, match="not centroids"):
            read_centroids(tmp_path / "km.npy")
    np.save(tmp_path / "km.npy", np.zeros((2, 2)))
    data = (tmp_path / "km.npy").read_bytes()
    (tmp_path / "km.npy").write_bytes(data.replace(b"(2, 2)", b"(2, (2"))
    with pytest.raises(UserError, match="damaged or no k-means file"):
        read_centroids(tmp_path / "km.npy")
