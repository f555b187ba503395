"""What a kind of published model brings: its configuration, its weights, and the object with our contract."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from audiolm_jax.errors import UserError, shown
from audiolm_jax.pretrained.files.weight_map import WeightMap

CODEC, ENCODER = "codec", "encoder"
# No number in a config.json is as great, no list of strides as long.
_BEYOND_ANY, _MANY, _MOST_LAYERS, _LONGEST_WORD = 1 << 31, 32, 1000, 80


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of published model.

    Attributes:
        name: `model_type` in config.json.
        part: CODEC or ENCODER.
        config_class: a frozen dataclass of plain values; all that the model's functions depend on besides its weights.
        read_config: from config.json and preprocessor_config.json (empty where there is none) to it; raises UserError
            for what we do not compute.
        weight_map: of a configuration.
        make: from a configuration to the object with the contract of `codec.contract.Codec` or
            `semantic.network.encoder.Encoder`.
    """

    name: str
    part: str
    config_class: type
    read_config: Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
    weight_map: Callable[[Any], WeightMap]
    make: Callable[[Any], Any]


class ConfigReader:
    """Values of a reference's config.json; a value that we do not compute, or of another type, is one clear line."""

    def __init__(self, plain: Mapping[str, Any], where: str):
        self._plain = plain
        self._where = where

    def value(self, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """A value of a type (bool is not int), or the reference's default where it is missing."""
        found = self._plain.get(name, default)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        fits = isinstance(found, kinds) and (bool in kinds or not isinstance(found, bool))
        if float in kinds and isinstance(found, int) and not isinstance(found, bool) and abs(found) < _BEYOND_ANY:
            return float(found)
        if isinstance(found, (int, float)) and not abs(found) < _BEYOND_ANY:
            fits = False
        if isinstance(found, str) and len(found) > _LONGEST_WORD:
            fits = False
        if not fits:
            names = " or ".join(each.__name__ for each in kinds)
            raise UserError(f"{self._where}: {name} is {shown(found)}, not {names}; give the model's own config.json")
        return found

    def count(self, name: str, default: int) -> int:
        """How many layers or levels there are: the shapes of all their tensors are written down, one by one."""
        found = self.value(name, int, default)
        if not 0 <= found <= _MOST_LAYERS:
            given = f"{self._where}: {name} is {found}"
            raise UserError(f"{given}, not 0 to {_MOST_LAYERS}; give the model's own config.json")
        return found

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A list of whole numbers from 1 as a tuple."""
        found = self._plain.get(name, list(default))
        numbers = found if isinstance(found, (list, tuple)) else [None]
        if len(numbers) > _MANY or not all(type(each) is int and 0 < each < _BEYOND_ANY for each in numbers):
            listed = f"{self._where}: {name} is {shown(found)}"
            raise UserError(f"{listed}, no list of numbers; give the model's own config.json")
        return tuple(found)

    def require(self, name: str, wanted: Any, default: Any, why: str) -> None:
        """Refuses another value than the one that we compute."""
        found = self._plain.get(name, default)
        if found != wanted:
            raise UserError(f"{self._where}: {name} is {shown(found)}, but only {wanted!r} is supported: {why}")
