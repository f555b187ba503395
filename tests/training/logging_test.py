"""TensorBoard files parse back with TensorBoard's own reader, and no TensorFlow is loaded to write them."""

import subprocess
import sys
import types

import numpy as np
import pytest

from audiolm_jax.training.logging import RunLog, read_metrics, spectrogram_image, trained_seconds


@pytest.fixture
def accumulate(monkeypatch):
    """TensorBoard's reader, without TensorFlow."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))
    from tensorboard.backend.event_processing import event_accumulator

    def read(workdir):
        events = event_accumulator.EventAccumulator(str(workdir / "tensorboard"), size_guidance={"audio": 0})
        events.Reload()
        return events

    return read


def test_scalars_audio_and_images_parse_back(tmp_path, accumulate):
    log = RunLog(tmp_path)
    log.scalars(3, "train", {"loss": 1.5, "steps_per_s": 2.0})
    log.scalars(4, "eval", {"loss": 1.25})
    log.audio(4, "0/original", 0.5 * np.sin(np.arange(16_000) / 5), 16_000)
    log.close()
    events = accumulate(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(3, 1.5)]
    assert [(event.step, event.value) for event in events.Scalars("eval/loss")] == [(4, 1.25)]
    (audio,) = events.Audio("audio/0/original")
    assert (audio.sample_rate, audio.length_frames, audio.step) == (16_000, 16_000, 4)
    assert audio.encoded_audio_string.startswith(b"RIFF")
    (image,) = events.Images("spectrogram/0/original")
    assert (image.height, image.width) == (160, 101)
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_resuming_drops_what_was_written_beyond_the_checkpoint(tmp_path, accumulate):
    log = RunLog(tmp_path)
    for step in range(1, 6):
        log.scalars(step, "train", {"loss": float(step)})
    log.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "spl')  # a kill in the middle of a line
    log = RunLog(tmp_path, resumed_step=3)
    log.scalars(4, "train", {"loss": 40.0})
    log.close()
    assert [line["loss"] for line in read_metrics(tmp_path)] == [1.0, 2.0, 3.0, 40.0]


def test_trained_seconds_are_those_of_the_lines_or_follow_from_their_speed(tmp_path):
    log = RunLog(tmp_path)
    log.scalars(10, "train", {"steps_per_s": 2.0})
    log.scalars(10, "eval", {"loss": 1.0})
    log.scalars(30, "train", {"steps_per_s": 4.0})
    log.scalars(40, "train", {})
    log.scalars(50, "train", {"steps_per_s": 1.0, "seconds": 25.0})
    log.close()
    assert trained_seconds(read_metrics(tmp_path)) == {10: 5.0, 30: 10.0, 40: 10.0, 50: 25.0}
    for resumed_step, seconds in ((0, 0.0), (30, 10.0), (60, 25.0)):
        (copy := tmp_path / str(resumed_step)).mkdir()
        (copy / "metrics.jsonl").write_bytes((tmp_path / "metrics.jsonl").read_bytes())
        log = RunLog(copy, resumed_step)
        log.close()
        assert log.seconds == seconds



def test_a_run_that_begins_anew_forgets_one_without_a_checkpoint(tmp_path, accumulate):
    for loss in (1.0, 2.0):
        log = RunLog(tmp_path)
        log.scalars(1, "train", {"loss": loss})
        if loss == 1.0:
            log.scalars(2, "train", {"loss": loss})
        log.close()
    assert [(event.step, event.value) for event in accumulate(tmp_path).Scalars("train/loss")] == [(1, 2.0)]


def test_without_tensorboard_the_figures_are_kept_and_a_line_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    log = RunLog(tmp_path)
    log.scalars(3, "train", {"loss": 1.5})
    log.audio(3, "0/original", np.zeros(16_000), 16_000)
    log.close()
    assert read_metrics(tmp_path) == [{"step": 3, "split": "train", "loss": 1.5}]
    assert "audiolm_jax[train]" in caplog.text and not (tmp_path / "tensorboard").exists()


def test_a_tone_lights_its_band_of_the_spectrogram():
    low, high = (spectrogram_image(np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000), 16_000) for hz in (300, 5000))
    assert low.dtype == np.uint8 and low.shape == (160, 101, 3)
    darkest = [int(image[:, 50].sum(axis=-1).argmin()) for image in (low, high)]
    assert darkest[0] > 100 > 60 > darkest[1]  # row 0 is the top


def test_writing_loads_no_tensorflow(tmp_path):
    code = (
        "import sys; from audiolm_jax.training.logging import RunLog; import numpy as np\n"
        f"log = RunLog({str(tmp_path)!r}); log.audio(1, 'a', np.zeros(1600), 16000); log.close()\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
