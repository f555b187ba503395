"""What a run writes for people: TensorBoard event files and `metrics.jsonl`, without TensorFlow."""

import contextlib
import importlib.util
import io
import json
import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from audiolm_jax import files
from audiolm_jax.errors import UserError
from audiolm_jax.page import png
from audiolm_jax.parallel import hosts
from audiolm_jax.spectral import mel_filters

METRICS_NAME = "metrics.jsonl"
_SPECTROGRAM_MELS = 80
_log = logging.getLogger(__name__)


class RunLog:
    """Writes scalars, audio and images of one run.

    `workdir/metrics.jsonl` has one JSON object per line: {"step": 100, "split": "train", "loss": 3.2, ...}.
    `workdir/tensorboard/` has the same figures as "train/loss", and the audio and images; where tensorboard is not
    installed (a classifier that an evaluation trains needs none of it), there is only the first, and a line says so.
    Of several processes only process 0 writes; for the others everything here does nothing.

    Attributes:
      last_eval_step: of the figures that are there; None where nothing was evaluated.
      seconds: that were trained until the last of them, see `trained_seconds`.
    """

    def __init__(self, workdir: str | Path, resumed_step: int = 0):
        """Opens the files.

        Args:
          workdir: the run's directory.
          resumed_step: figures of later steps, which a killed run wrote after its last checkpoint, are dropped: they
            will be computed again, and each step shall stand there once.

        Raises:
          UserError: the files cannot be written; the same holds for every method.
        """
        self.last_eval_step: int | None = None
        self.seconds = 0.0
        self._metrics_path = Path(workdir) / METRICS_NAME
        self._events = None
        if not hosts.is_main():
            return
        kept = [line for line in read_metrics(workdir) if line["step"] <= resumed_step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        with _writing(self._metrics_path):
            files.replace_file(self._metrics_path, text.encode())
        self.last_eval_step = max((line["step"] for line in kept if line["split"] == "eval"), default=None)
        self.seconds = max(trained_seconds(kept).values(), default=0.0)

        if importlib.util.find_spec("tensorboard") is None:
            _log.warning("no plots for TensorBoard: pip install 'audiolm_jax[train]'; figures go to metrics.jsonl")
        else:
            with _writing(Path(workdir) / "tensorboard"):
                self._events = _EventFile(Path(workdir) / "tensorboard", resumed_step)

    def scalars(self, step: int, split: str, values: dict[str, float], faults: Sequence[str] | None = None) -> None:
        """Figures of one step; `split` is "train", "eval" or "exam". What an examination named goes beside them."""
        if not hosts.is_main():
            return
        named = {} if faults is None else {"faults": list(faults)}
        line = json.dumps({"step": step, "split": split, **values, **named}) + "\n"
        with _writing(self._metrics_path), open(self._metrics_path, "ab", buffering=0) as file:
            file.write(line.encode())  # in one piece, so that a kill leaves all of it or nothing
        self._write_event(step, [{"tag": f"{split}/{name}", "simple_value": value} for name, value in values.items()])

    def audio(self, step: int, name: str, samples: np.ndarray, sample_rate_hz: int) -> None:
        """A sound float32[T] in -1..1, and its mel spectrogram as an image."""
        if self._events is None:
            return
        samples = np.clip(np.asarray(samples, np.float32), -1.0, 1.0)
        wav = io.BytesIO()
        soundfile.write(wav, samples, sample_rate_hz, format="WAV", subtype="PCM_16")
        audio = {
            "sample_rate": sample_rate_hz,
            "num_channels": 1,
            "length_frames": len(samples),
            "encoded_audio_string": wav.getvalue(),
            "content_type": "audio/wav",
        }
        self._write_event(step, [{"tag": f"audio/{name}", "audio": audio}])
        self.image(step, f"spectrogram/{name}", spectrogram_image(samples, sample_rate_hz))

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """An image uint8[H, W, 3]."""
        height, width, _ = pixels.shape
        encoded = png.encode_png(pixels)
        image = {"height": height, "width": width, "colorspace": 3, "encoded_image_string": encoded}
        self._write_event(step, [{"tag": name, "image": image}])

    def close(self) -> None:
        """Closes the event file."""
        if self._events is not None:
            with _writing(self._metrics_path.parent / "tensorboard"):
                self._events.close()

    def _write_event(self, step: int, values: list[dict]) -> None:
        if self._events is not None:
            with _writing(self._metrics_path.parent / "tensorboard"):
                self._events.write(step, values)


class _EventFile:
    """A TensorBoard event file, written with tensorboard's own messages and record framing."""

    def __init__(self, folder: Path, resumed_step: int):
        # Its EventFileWriter is not used because it loads TensorFlow where that is installed; these two modules do not.
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(parents=True, exist_ok=True)
        written_before = any(folder.glob("events.out.tfevents.*"))
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter(open(folder / name, "ab"))
        self._append(self._event(wall_time=time.time(), file_version="brain.Event:2"))
        if resumed_step or written_before:
            # TensorBoard then forgets what a killed run wrote beyond its last checkpoint, or before its first.
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._append(self._event(wall_time=time.time(), step=resumed_step + 1, session_log=start))

    def write(self, step: int, values: list[dict]) -> None:
        summary = self._summary(value=[self._summary.Value(**value) for value in values])
        self._append(self._event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        self._records.close()

    def _append(self, event) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; make room or mend the folder, then start the "
                        "same command again: it goes on from the last checkpoint") from error


def read_metrics(workdir: str | Path) -> list[dict]:
    """The lines of `workdir/metrics.jsonl`; a last line that a kill cut in two is left out."""
    path = Path(workdir) / METRICS_NAME
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def trained_seconds(lines: Iterable[dict]) -> dict[int, float]:
    """How long a run had trained at each step of the train lines of its metrics.jsonl, in seconds.

    They say it themselves, as `seconds` (see `progress.Clock`). Of those that a version before wrote, which did not,
    the steps since the line before are divided by `steps_per_s`.
    """
    found, step, seconds = {}, 0, 0.0
    for line in lines:
        if line["split"] != "train":
            continue
        if "seconds" in line:
            seconds = line["seconds"]
        elif line.get("steps_per_s"):
            seconds += (line["step"] - step) / line["steps_per_s"]
        step = line["step"]
        found[step] = seconds
    return found


def spectrogram_image(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Log-mel spectrogram of float32[T] as uint8[160, frames, 3]: 10 ms a column, low notes at the bottom, 80 dB."""
    hop_samples = sample_rate_hz // 100
    window_samples = 4 * hop_samples
    padded = np.pad(np.asarray(samples, np.float32), window_samples // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_samples)[::hop_samples]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(window_samples), axis=-1)) * (4 / window_samples)
    mel = magnitude @ mel_filters(sample_rate_hz, window_samples, _SPECTROGRAM_MELS)  # frames, MELS
    level = 1.0 + 20.0 * np.log10(np.maximum(mel.T, 1e-4)) / 80.0
    return np.repeat(png.colour(np.clip(level[::-1], 0.0, 1.0)), 2, axis=0)
