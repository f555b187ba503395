"""What a run writes for people: TensorBoard event files and `metrics.jsonl`, without TensorFlow."""

import io
import json
import os
import socket
import time
from pathlib import Path

import librosa
import numpy as np
import soundfile
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

_SPECTROGRAM_MELS = 80
# Dark blue, violet, orange, pale yellow: equal steps of loudness look like equal steps of brightness.
_COLOURS = np.array([[8, 8, 48], [84, 24, 122], [182, 54, 108], [246, 130, 76], [252, 250, 200]], np.float32)


class RunLog:
    """Writes scalars, audio and images of one run.

    `workdir/metrics.jsonl` has one JSON object per line: {"step": 100, "split": "train", "loss": 3.2, ...}.
    `workdir/tensorboard/` has the same figures as "train/loss", and the audio and images.
    """

    def __init__(self, workdir: str | Path, resumed_step: int = 0):
        """Opens the files.

        Args:
          workdir: the run's directory.
          resumed_step: figures of later steps, which a killed run wrote after its last checkpoint, are dropped: they
            will be computed again, and each step shall stand there once.
        """
        self._metrics_path = Path(workdir) / "metrics.jsonl"
        kept = [line for line in read_metrics(workdir) if line["step"] <= resumed_step]
        temporary = self._metrics_path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        temporary.replace(self._metrics_path)
        self.last_eval_step = max((line["step"] for line in kept if line["split"] == "eval"), default=None)

        folder = Path(workdir) / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter(open(folder / name, "ab"))
        self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if resumed_step:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(event_pb2.Event(wall_time=time.time(), step=resumed_step + 1, session_log=start))

    def scalars(self, step: int, split: str, values: dict[str, float]) -> None:
        """Figures of one step; `split` is "train" or "eval"."""
        with open(self._metrics_path, "a") as file:
            file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._summary(step, [summary_pb2.Summary.Value(tag=f"{split}/{name}", simple_value=value)
                             for name, value in values.items()])

    def audio(self, step: int, name: str, samples: np.ndarray, sample_rate_hz: int) -> None:
        """A sound float32[T] in -1..1, and its mel spectrogram as an image."""
        samples = np.clip(np.asarray(samples, np.float32), -1.0, 1.0)
        wav = io.BytesIO()
        soundfile.write(wav, samples, sample_rate_hz, format="WAV", subtype="PCM_16")
        audio = summary_pb2.Summary.Audio(
            sample_rate=sample_rate_hz,
            num_channels=1,
            length_frames=len(samples),
            encoded_audio_string=wav.getvalue(),
            content_type="audio/wav",
        )
        self._summary(step, [summary_pb2.Summary.Value(tag=f"audio/{name}", audio=audio)])
        self.image(step, f"spectrogram/{name}", spectrogram_image(samples, sample_rate_hz))

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """An image uint8[H, W, 3]."""
        import PIL.Image  # comes with tensorboard

        png = io.BytesIO()
        PIL.Image.fromarray(pixels).save(png, format="PNG")
        image = summary_pb2.Summary.Image(
            height=pixels.shape[0], width=pixels.shape[1], colorspace=3, encoded_image_string=png.getvalue()
        )
        self._summary(step, [summary_pb2.Summary.Value(tag=name, image=image)])

    def close(self) -> None:
        """Closes the event file."""
        self._records.close()

    def _summary(self, step: int, values: list) -> None:
        self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=values)))

    def _write(self, event) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()


def read_metrics(workdir: str | Path) -> list[dict]:
    """The lines of `workdir/metrics.jsonl`; a last line that a kill cut in two is left out."""
    path = Path(workdir) / "metrics.jsonl"
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def spectrogram_image(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Log-mel spectrogram of float32[T] as uint8[160, frames, 3]: 10 ms a column, low notes at the bottom, 80 dB."""
    hop_samples = sample_rate_hz // 100
    mel = librosa.feature.melspectrogram(
        y=np.asarray(samples, np.float32),
        sr=sample_rate_hz,
        n_fft=4 * hop_samples,
        hop_length=hop_samples,
        n_mels=_SPECTROGRAM_MELS,
    )
    level = 1.0 + librosa.power_to_db(mel, ref=1.0, amin=1e-8, top_db=None) / 80.0  # MELS, frames
    level = np.clip(level, 0.0, 1.0)[::-1] * (len(_COLOURS) - 1)
    below = np.minimum(level.astype(int), len(_COLOURS) - 2)
    part = (level - below)[..., None]
    pixels = _COLOURS[below] * (1.0 - part) + _COLOURS[below + 1] * part
    return np.repeat(pixels.astype(np.uint8), 2, axis=0)
