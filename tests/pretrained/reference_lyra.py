"""Lyra V2 as its files compute it: frame after frame in whole numbers, by NumPy; and the files themselves, by LiteRT.

The small model has random weights, and grids that hold what a few recordings give. `LiteRtLyra` runs the published
files and needs ai-edge-litert.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.pretrained.parity import speechlike

# What the small model has in place of the published sizes: another number everywhere.
TINY = {
    "model_type": "lyra",
    "sample_rate_hz": 9600,
    "strides": [4, 3, 2, 2],
    "widths": [4, 8, 12, 24],
    "edge_kernel_strides": 3,
    "dilations": [1, 2],
    "unit_kernel": 4,
    "group_width": 4,
    "latent_kernel": 4,
    "latent_groups": 2,
    "latent_dim": 10,
    "slope": 0.2,
    "num_codebooks": 7,
    "level_size": 8,
    "join_levels": 2,
    "num_quantizers": 3,
}


@dataclasses.dataclass(frozen=True)
class Frame:
    """Steps [T, C] of one frame: real numbers, or int8 on a grid."""

    values: np.ndarray
    scale: np.float32 | None = None
    zero_point: int = 0

    def real(self) -> np.ndarray:
        if self.scale is None:
            return self.values
        return (self.values - self.zero_point).astype(np.float32) * self.scale


class ReferenceLyra:
    """A model of given sizes: `tensors` by name, and what every layer keeps of the frames before."""

    def __init__(self, config: dict, tensors: dict[str, np.ndarray], ranges: dict[str, list[float]] | None = None):
        self.config, self.tensors = config, tensors
        self.ranges = ranges  # of what would be put on a grid, while that is being found out; then nothing is int8
        self.state: dict[str, np.ndarray] = {}

    def save_pretrained(self, folder: Path) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "config.json").write_text(json.dumps(self.config, indent=1) + "\n")
        save_file(self.tensors, Path(folder) / "model.safetensors")

    def latents(self, wave: np.ndarray) -> np.ndarray:
        """float32[F, D] of float32[T]."""
        self.state = {}
        hop = int(np.prod(self.config["strides"]))
        wave = np.pad(wave, (0, -len(wave) % hop)).reshape(-1, hop, 1)
        return np.concatenate([self._encoded(frame) for frame in wave])

    def encode(self, wave: np.ndarray) -> np.ndarray:
        """int32[F, Q] of float32[T]."""
        residual, digits = self.latents(wave), []
        for codebook in self.tensors["codebooks"][: self.config["num_quantizers"] * self.config["join_levels"]]:
            codes = np.argmin(np.square(residual[:, None] - codebook).sum(-1), axis=1)
            residual = residual - (residual + (codebook[codes] - residual))
            digits.append(codes)
        joined = np.reshape(np.stack(digits, axis=1), (len(residual), -1, self.config["join_levels"]))
        tokens = np.zeros(joined.shape[:2], np.int32)
        for place in range(self.config["join_levels"]):
            tokens = tokens * self.config["level_size"] + joined[:, :, place]
        return tokens

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """float32[F * hop] of int32[F, q]."""
        self.state, sounds = {}, []
        for frame in tokens:
            latent = np.zeros((1, self.config["latent_dim"]), np.float32)
            for number, token in enumerate(frame):
                digits = np.unravel_index(token, (self.config["level_size"],) * self.config["join_levels"])
                for place, digit in enumerate(digits):
                    latent = latent + self.tensors["codebooks"][number * self.config["join_levels"] + place, digit]
            sounds.append(self._decoded(latent))
        return np.concatenate(sounds)

    def _encoded(self, wave: np.ndarray) -> np.ndarray:
        config = self.config
        x = self._conv("encoder.first", Frame(wave), config["strides"][0])
        for block, stride in enumerate(config["strides"][1:]):
            is_last = block == len(config["strides"]) - 2
            for unit, dilation in enumerate(config["dilations"]):
                rounds = ("all" if unit else "pointwise") if is_last else None
                x = self._unit(f"encoder.block{block}_unit{unit}", x, dilation, rounds)
            name = f"encoder.block{block}_down"
            x = self._conv(name, self._leaky(f"{name}_input", x, is_last), stride)
        return self._conv("encoder.last", self._leaky("encoder.last_input", x, True)).real()

    def _decoded(self, latent: np.ndarray) -> np.ndarray:
        config = self.config
        x = self._conv("decoder.first", Frame(latent))
        strides = config["strides"][:0:-1]
        for block, stride in enumerate(strides):
            name = f"decoder.block{block}_up"
            x = self._leaky(f"{name}_input", x, block < 2)
            x = self._up_conv(name, x, stride, block < 2)
            for unit, dilation in enumerate(config["dilations"]):
                rounds = ("all" if unit else "activation") if block == 0 else None
                x = self._unit(f"decoder.block{block}_unit{unit}", x, dilation, rounds)
        return self._up_conv("decoder.last", self._leaky("", x, False), config["strides"][0], False).values[:, 0]

    def _unit(self, name: str, x: Frame, dilation: int, rounds: str | None) -> Frame:
        y = self._leaky(f"{name}.input", x, rounds in ("all", "activation"))
        y = self._conv(f"{name}.depthwise", y, 1, dilation)
        y = self._conv(f"{name}.pointwise", y)
        if rounds == "pointwise":
            y = self._rounded(f"{name}.pointwise", y.values)
        y = self._leaky(f"{name}.inner", y, rounds is not None)
        y = self._conv(f"{name}.grouped", y)
        return self._sum(f"{name}.sum", x, y, rounds is not None)

    def _grid(self, name: str) -> tuple[np.float32, int]:
        return self.tensors[f"{name}_scale"][0], int(self.tensors[f"{name}_zero_point"][0])

    def _rounded(self, name: str, values: np.ndarray) -> Frame:
        """Real values on a grid."""
        if self.ranges is not None:
            low, high = self.ranges.setdefault(name, [0.0, 0.0])
            self.ranges[name] = [min(low, float(values.min())), max(high, float(values.max()))]
            return Frame(values)
        scale, zero_point = self._grid(name)
        steps = np.rint(values * (np.float32(1) / scale)).astype(int) + zero_point
        return Frame(np.clip(steps, -128, 127), scale, zero_point)

    def _leaky(self, name: str, x: Frame, on_grid: bool) -> Frame:
        slope = np.float32(self.config["slope"])
        if x.scale is None:
            values = np.where(x.values >= 0, x.values, x.values * slope)
            return self._rounded(name, values) if on_grid else Frame(values)
        scale, zero_point = self._grid(name)
        ratio = x.scale / scale
        multipliers = [int(np.rint(np.float32(256) * each)) for each in (ratio, ratio * slope)]
        away = x.values - x.zero_point
        steps = (np.where(away >= 0, away * multipliers[0], away * multipliers[1]) + 128) >> 8
        return Frame(np.clip(steps + zero_point, -128, 127), scale, zero_point)

    def _sum(self, name: str, x: Frame, y: Frame, on_grid: bool) -> Frame:
        if x.scale is None or y.scale is None:
            values = y.real() + x.real()
            return self._rounded(name, values) if on_grid else Frame(values)
        scale, zero_point = self._grid(name)
        ratios = [float(each.scale / scale) for each in (x, y)]
        shift = 20 - int(np.floor(np.log2(max(ratios))))
        total = 1 << (shift - 1)
        for each, ratio in zip((x, y), ratios, strict=True):
            total = total + (each.values - each.zero_point).astype(np.int64) * int(np.rint(ratio * 2.0**shift))
        return Frame(np.clip((total >> shift) + zero_point, -128, 127), scale, zero_point)

    def _requantised(self, name: str, x: Frame, sums: np.ndarray) -> Frame:
        scale, zero_point = self._grid(f"{name}.output")
        multiplier = x.scale * self.tensors[f"{name}.kernel_scale"] / scale
        steps = np.rint(sums.astype(np.float32) * multiplier).astype(int) + zero_point
        return Frame(np.clip(steps, -128, 127), scale, zero_point)

    def _weights(self, name: str, x: Frame) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias: as they are, or in whole numbers where x is int8."""
        kernel, bias = self.tensors[f"{name}.kernel"], self.tensors[f"{name}.bias"]
        if x.scale is None:
            return kernel, bias
        scales = self.tensors[f"{name}.kernel_scale"]
        per_kernel = scales if kernel.ndim == 2 else scales[:, None, None]
        return np.rint(kernel / per_kernel).astype(np.int64), np.rint(bias / (x.scale * scales)).astype(np.int64)

    def _conv(self, name: str, x: Frame, stride: int = 1, dilation: int = 1) -> Frame:
        kernel, bias = self._weights(name, x)
        size = kernel.shape[0] if kernel.ndim == 2 else kernel.shape[1]
        pad, width = (size - 1) * dilation + 1 - stride, x.values.shape[1]
        before = np.full((pad, width), x.zero_point, x.values.dtype)
        values = np.concatenate([self.state.get(name, before), x.values])
        self.state[name] = values[len(values) - pad :]
        values = values - x.zero_point if x.scale is not None else values
        rows = []
        for start in range(0, len(x.values), stride):
            taps = values[start : start + (size - 1) * dilation + 1 : dilation]
            if kernel.ndim == 2:
                rows.append((taps * kernel).sum(0))
                continue
            groups = width // kernel.shape[2]
            halves = zip(np.split(kernel, groups), np.split(taps, groups, axis=1), strict=True)
            rows.append(np.concatenate([np.einsum("oki,ki->o", *half) for half in halves]))
        sums = np.stack(rows) + bias
        if x.scale is not None:
            return self._requantised(name, x, sums)
        return self._rounded(f"{name}.output", sums) if self.ranges is not None and self._is_int8(name) else Frame(sums)

    def _is_int8(self, name: str) -> bool:
        """Whether a convolution is computed in int8, once the ranges are known."""
        last = f"encoder.block{len(self.config['strides']) - 2}"
        if name.startswith(f"{last}_unit0"):
            return name.endswith("grouped")
        return name == "encoder.last" or name.startswith((last, "decoder.block0"))

    def _up_conv(self, name: str, x: Frame, stride: int, is_int8: bool) -> Frame:
        groups = sum(each.startswith(f"{name}.group") and each.endswith(".kernel") for each in self.tensors)
        parts = []
        for group, values in enumerate(np.split(x.values, groups, axis=1)):
            part, mine = f"{name}.group{group}", Frame(values, x.scale, x.zero_point)
            kernel, bias = self._weights(part, mine)
            taps, steps = kernel.shape[1], len(values)
            sums = np.zeros(((steps - 1) * stride + taps, kernel.shape[0]), kernel.dtype)
            for step, value in enumerate(values - x.zero_point if x.scale is not None else values):
                sums[step * stride : step * stride + taps] += np.einsum("oki,i->ko", kernel, value)
            sums = sums + bias
            if x.scale is not None:
                sums = self._requantised(part, mine, sums).real()
            elif is_int8 and self.ranges is not None:
                self._rounded(f"{part}.output", sums)
            behind = len(sums) - steps * stride
            whole = sums + np.pad(self.state.get(part, np.zeros((behind, kernel.shape[0]), np.float32)),
                                  ((0, steps * stride), (0, 0)))
            self.state[part] = whole[steps * stride :] - self.tensors[f"{part}.bias"]
            parts.append(whole[: steps * stride])
        return Frame(np.concatenate(parts, axis=1))


class LiteRtLyra:
    """The published files, run by LiteRT with its default kernels."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def _runner(self, name: str, signature: str | None = None):
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(str(self.folder / f"{name}.tflite"), num_threads=1).get_signature_runner(signature)

    def encode(self, wave: np.ndarray) -> np.ndarray:
        """int32[F, 46] of float32[T]."""
        encoder, quantizer = self._runner("soundstream_encoder"), self._runner("quantizer", "encode")
        tokens = []
        for frame in np.pad(wave, (0, -len(wave) % 320)).reshape(-1, 1, 320):
            latents = encoder(input_audio=frame)["output_0"]
            codes = quantizer(input_frames=latents, num_quantizers=np.int32(46))
            tokens.append(max(codes.values(), key=np.size)[:, 0, 0])
        return np.stack(tokens)

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """float32[F * 320] of int32[F, q]; levels behind the q are left out."""
        decoder, quantizer = self._runner("lyragan"), self._runner("quantizer", "decode")
        (name,) = decoder.get_input_details()
        sounds = []
        for frame in tokens:
            codes = np.full((46, 1, 1), -1, np.int32)
            codes[: len(frame), 0, 0] = frame
            sounds.append(decoder(**{name: quantizer(encoding_indices=codes)["output_0"]})["output_0"][0])
        return np.concatenate(sounds)


def tiny() -> tuple[ReferenceLyra, None]:
    """A model of some thousand weights that differs from the published one in every number."""
    from audiolm_jax.pretrained.lyra import lyra

    config = {key: tuple(value) if isinstance(value, list) else value for key, value in TINY.items()}
    weights = lyra.KIND.weight_map(lyra.KIND.read_config(config, {})).weights
    rng, tensors = np.random.default_rng(3), {}
    for weight in weights:
        if weight.name.endswith((".kernel", ".bias")):
            fan = 100 if weight.name.endswith(".bias") else np.prod(weight.shape) / max(weight.shape[0], 1)
            fan = weight.shape[0] if len(weight.shape) == 2 else fan
            tensors[weight.name] = (1.4 * rng.normal(size=weight.shape) / np.sqrt(fan)).astype(np.float32)
    _calibrate(tensors, rng)
    return ReferenceLyra(TINY, tensors), None


def _calibrate(tensors: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """Gives the kernels, what goes between them, and the quantizer the grids and entries that random weights need."""
    waves = [speechlike(0.8, TINY["sample_rate_hz"], seed) for seed in (20, 21)]
    measured = ReferenceLyra(TINY, tensors, ranges={})
    residual = np.concatenate([measured.latents(wave) for wave in waves])
    codebooks = []
    for _ in range(TINY["num_codebooks"]):
        codebook = residual[rng.choice(len(residual), TINY["level_size"], replace=False)]
        nearest = np.argmin(np.square(residual[:, None] - codebook).sum(-1), axis=1)
        codebooks.append(codebook)
        residual = residual - codebook[nearest]
    tensors["codebooks"] = np.stack(codebooks)
    latents = np.concatenate([measured.latents(wave) for wave in waves])
    measured.state = {}
    for latent in latents:
        measured._decoded(latent[None])
    scales = {}
    for name, (low, high) in measured.ranges.items():
        scale = np.float32(max(high - low, 1e-3) / 255)
        scales[name] = scale
        tensors[f"{name}_scale"] = scale[None]
        tensors[f"{name}_zero_point"] = np.float32([np.clip(np.rint(-128 - low / scale), -128, 127)])
    for name in [name.removesuffix(".output") for name in scales if name.endswith(".output")]:
        kernel = tensors[f"{name}.kernel"]
        if ".group" in name and "grouped" not in name:
            scale = np.float32([np.abs(kernel).max() / 127])
            tensors[f"{name}.kernel"] = np.rint(kernel / scale).astype(np.float32) * scale
        else:
            axes = (0,) if kernel.ndim == 2 else (1, 2)
            scale = (np.abs(kernel).max(axis=axes) / 127).astype(np.float32)
            per_kernel = scale if kernel.ndim == 2 else scale[:, None, None]
            tensors[f"{name}.kernel"] = np.rint(kernel / per_kernel).astype(np.float32) * per_kernel
        tensors[f"{name}.kernel_scale"] = scale


def from_files(folder: Path) -> LiteRtLyra:
    """The published model."""
    return LiteRtLyra(folder)


def published() -> dict[str, object]:
    """None with random weights: the published files are at hand, see `from_files`."""
    return {}


def encode(model, extractor, wave: np.ndarray) -> np.ndarray:
    return model.encode(wave)


def decode(model, tokens: np.ndarray) -> np.ndarray:
    return model.decode(tokens)
