"""The published files of Lyra V2: three LiteRT graphs, of which the layers are read in the order they are computed."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_jax.errors import UserError, first_line
from audiolm_jax.pretrained.lyra.lyra_network import LyraConfig
from audiolm_jax.pretrained.lyra.lyra_weights import (
    CODEBOOKS,
    CONV,
    DEPTHWISE,
    GRID,
    TRANSPOSED,
    Layer,
    decoder_layers,
    encoder_layers,
)

ENCODER_NAME = "soundstream_encoder.tflite"
QUANTIZER_NAME = "quantizer.tflite"
DECODER_NAME = "lyragan.tflite"
NAMES = (ENCODER_NAME, QUANTIZER_NAME, DECODER_NAME)
_LICENCE_NAME = "LICENSE"
_KIND_OF_OPERATOR = {"CONV_2D": CONV, "DEPTHWISE_CONV_2D": DEPTHWISE, "TRANSPOSE_CONV": TRANSPOSED}


@dataclasses.dataclass(frozen=True)
class LyraFolder:
    """A folder with the three files, as `huggingface_folder.HuggingFaceFolder` is of another model."""

    path: Path

    @property
    def config(self) -> dict[str, Any]:
        """Only the kind: everything is as in the published model, which the shapes of the tensors confirm."""
        return {"model_type": "lyra"}

    @property
    def preprocessor(self) -> dict[str, Any]:
        """There is none."""
        return {}

    @property
    def origin(self) -> str:
        """Where the project publishes it."""
        return "google/lyra"

    @property
    def licence(self) -> str | None:
        """None for what the project publishes it under; a UserError where LICENSE says something else."""
        path = self.path / _LICENCE_NAME
        if path.exists() and "Apache License" not in path.read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"{path} is not the Apache License that Lyra is published under; give --licence")
        return None

    def tensors(self) -> dict[str, np.ndarray]:
        """All tensors by the names of `lyra_weights`, float32.

        Raises:
            UserError: a file is missing, damaged or not the one of Lyra V2.
            ModuleNotFoundError: ai-edge-litert is not installed.
        """
        missing = [name for name in NAMES if not (self.path / name).is_file()]
        if missing:
            raise UserError(f"{self.path} has no {missing[0]}; copy all of lyra/model_coeffs: {', '.join(NAMES)}")
        config = LyraConfig()
        encoder, quantizer, decoder = (_read_graph(self.path / name) for name in NAMES)
        return {
            **_layers(encoder, list(encoder_layers(config)), self.path / ENCODER_NAME),
            **_layers(decoder, list(decoder_layers(config)), self.path / DECODER_NAME),
            CODEBOOKS: _codebooks(quantizer, config, self.path / QUANTIZER_NAME),
        }


def is_lyra_folder(path: str | Path) -> bool:
    """Whether one of the three files is in the folder."""
    return any((Path(path) / name).is_file() for name in NAMES)


@dataclasses.dataclass(frozen=True, eq=False)
class _Tensor:
    """What a graph says of a tensor; `data` is None where it is computed."""

    data: np.ndarray | None
    is_int8: bool
    scale: np.ndarray
    zero_point: np.ndarray

    def real(self) -> np.ndarray:
        """Its values, dequantised along the axis that has as many entries as there are scales."""
        if self.scale.size == 0:
            return np.asarray(self.data, np.float32)
        axis = next((axis for axis in (0, -1) if self.data.shape[axis] == self.scale.size), 0)
        shape = [1] * self.data.ndim
        shape[axis] = self.scale.size
        return self.data.astype(np.float32) * self.scale.reshape(shape)


@dataclasses.dataclass(frozen=True)
class _Operator:
    """One operation of a graph."""

    name: str
    inputs: list[_Tensor]
    outputs: list[_Tensor]


def _read_graph(path: Path) -> list[list[_Operator]]:
    """The operations of every part of a file, in the order they are computed."""
    # At import only: what was imported runs without it.
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        data = path.read_bytes()
        # Checks that nothing points outside the file.
        Interpreter(
            model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
        types = {
            schema.TensorType.FLOAT32: np.float32,
            schema.TensorType.INT32: np.int32,
            schema.TensorType.INT8: np.int8,
        }
        return [_operators(model, graph, names, types) for graph in model.subgraphs]
    except (ValueError, RuntimeError, TypeError, KeyError, IndexError, AttributeError, OSError) as error:
        raise UserError(f"{path} is cut short or no LiteRT file ({first_line(error)}); copy it again") from error


def _operators(model: Any, graph: Any, names: dict[int, str], types: dict[int, type]) -> list[_Operator]:
    none = np.zeros(0, np.float32)

    def tensor(tensor: Any) -> _Tensor:
        raw, quantization = model.buffers[tensor.buffer].data, tensor.quantization
        data = None
        if raw is not None and len(raw) and tensor.type in types:
            shape = [] if tensor.shape is None else list(tensor.shape)
            data = np.frombuffer(bytes(raw), types[tensor.type]).reshape(shape)
        has_grid = quantization is not None and quantization.scale is not None
        scale = np.asarray(quantization.scale, np.float32) if has_grid else none
        zero_point = np.asarray(quantization.zeroPoint, np.float32) if has_grid else none
        return _Tensor(data, types.get(tensor.type) is np.int8, scale, zero_point)

    tensors = [tensor(each) for each in graph.tensors]

    def chosen(indices: Any) -> list[_Tensor]:
        return [tensors[index] for index in ([] if indices is None else indices) if index >= 0]

    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return [
        _Operator(names[codes[each.opcodeIndex]], chosen(each.inputs), chosen(each.outputs)) for each in graph.operators
    ]


def _layers(graphs: list[list[_Operator]], layers: list[Layer], path: Path) -> dict[str, np.ndarray]:
    """The tensors of the layers, which have to be those that the file computes."""
    found = list(_found_layers(graphs[0]))
    kinds = [kind for kind, _ in found]
    if kinds != [layer.kind for layer in layers]:
        raise UserError(
            f"{path} computes {len(kinds)} layers that are not the {len(layers)} of Lyra V2's {path.name}; give the "
            "files of lyra/model_coeffs as google/lyra publishes them"
        )
    tensors: dict[str, np.ndarray] = {}
    for layer, (_, read) in zip(layers, found, strict=True):
        tensors |= {f"{layer.name}{name}": array for name, array in read().items()}
    return tensors


def _found_layers(operators: list[_Operator]) -> Iterator[tuple[str, Callable[[], dict[str, np.ndarray]]]]:
    """(kind of the layer, function that reads its tensors) in the order they are computed."""
    maker = {id(tensor): operator for operator in operators for tensor in operator.outputs}
    for place, operator in enumerate(operators):
        kind = _KIND_OF_OPERATOR.get(operator.name)
        if kind is not None:
            yield kind, lambda operator=operator, place=place: _convolution(operator, operators[place:])
            continue
        if not operator.outputs or not operator.outputs[0].is_int8:
            continue
        # What was carried over from the frame before is put on the grid that it was on.
        source = maker.get(id(operator.inputs[0]))
        is_carried = source is not None and source.name == "CONCATENATION"
        if operator.name in ("LEAKY_RELU", "ADD") or (operator.name == "QUANTIZE" and not is_carried):
            yield GRID, lambda operator=operator: {
                f"_{name}": array for name, array in _grid(operator.outputs[0]).items()
            }


def _grid(tensor: _Tensor) -> dict[str, np.ndarray]:
    return {"scale": tensor.scale, "zero_point": tensor.zero_point}


def _convolution(operator: _Operator, following: list[_Operator]) -> dict[str, np.ndarray]:
    if operator.name == "TRANSPOSE_CONV":
        _, kernel, x, bias = operator.inputs
        # In int8 its own bias is rounded; what the next frame is spared of it is not.
        bias = next(each.inputs[1] for each in following if each.name == "SUB")
    else:
        x, kernel, bias = operator.inputs
    array = kernel.real()
    array = array[0, :, 0, :] if operator.name == "DEPTHWISE_CONV_2D" else array[:, :, 0, :]
    tensors = {".kernel": array, ".bias": bias.real()}
    if x.is_int8:
        grid = {f".output_{name}": each for name, each in _grid(operator.outputs[0]).items()}
        tensors |= {".kernel_scale": kernel.scale, **grid}
    return tensors


def _codebooks(graphs: list[list[_Operator]], config: LyraConfig, path: Path) -> np.ndarray:
    """float32[levels, K, D]: what each level's distances are measured from."""
    entries = [
        operator.inputs[1].real().reshape(config.level_size, config.latent_dim)
        for operators in graphs
        for operator in operators
        if operator.name == "SQUARED_DIFFERENCE" and operator.inputs[1].data is not None
        and operator.inputs[1].data.size == config.level_size * config.latent_dim
    ]
    if len(entries) != config.num_codebooks:
        raise UserError(
            f"{path} has {len(entries)} levels of {config.level_size} codes, not {config.num_codebooks} as Lyra V2's; "
            "give the files of lyra/model_coeffs as google/lyra publishes them"
        )
    return np.stack(entries)
