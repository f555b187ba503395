"""Which codecs and encoders a bundle may hold, by the kinds that its manifest names."""

import dataclasses
from collections.abc import Callable
from typing import Any

from audiolm_jax.codec.contract import Codec
from audiolm_jax.codec.soundstream import SoundStream, SoundStreamConfig
from audiolm_jax.errors import UserError, shown
from audiolm_jax.pretrained.kind import CODEC, ENCODER
from audiolm_jax.pretrained.kinds import KINDS
from audiolm_jax.semantic.w2v_bert import W2vBertConfig


@dataclasses.dataclass(frozen=True)
class TokenizerKind:
    """A kind of codec or encoder.

    Attributes:
        name: in manifests.
        title: for people.
        config_class: of its configuration, a frozen dataclass of plain values.
        make: from a configuration to the codec; encoders are their own configuration.
    """

    name: str
    title: str
    config_class: type
    make: Callable[[Any], Any]


SOUNDSTREAM = TokenizerKind("soundstream", "SoundStream", SoundStreamConfig, SoundStream)
W2V_BERT = TokenizerKind("w2v_bert", "w2v-BERT", W2vBertConfig, lambda config: config)
_TITLES = {
    "hubert": "HuBERT or wav2vec 2.0",
    "wav2vec2": "wav2vec 2.0",
    "wav2vec2-bert": "w2v-BERT 2.0",
    "encodec": "EnCodec",
    "dac": "DAC",
    "mimi": "Mimi",
    "lyra": "Lyra V2",
}


def _published(part: str) -> tuple[TokenizerKind, ...]:
    kinds = (kind for kind in KINDS if kind.part == part)
    return tuple(TokenizerKind(kind.name, _TITLES[kind.name], kind.config_class, kind.make) for kind in kinds)


CODECS = (SOUNDSTREAM, *_published(CODEC))
ENCODERS = (W2V_BERT, *_published(ENCODER))


def codec_kind(name: Any, where: str) -> TokenizerKind:
    """The kind of codec of a name; UserError for one that this version does not know."""
    return _named(CODECS, name, f"{where}: the codec")


def encoder_kind(name: Any, where: str) -> TokenizerKind:
    """The kind of encoder of a name; UserError for one that this version does not know."""
    return _named(ENCODERS, name, f"{where}: the semantic")


def kind_of_codec(codec: Codec) -> TokenizerKind:
    """The kind that a codec in memory is of."""
    return next(kind for kind in CODECS if kind.config_class is type(codec.config))


def kind_of_encoder(encoder: Any) -> TokenizerKind:
    """The kind that an encoder in memory is of; of several with one class the first."""
    return next(kind for kind in ENCODERS if kind.config_class is type(encoder))


def _named(kinds: tuple[TokenizerKind, ...], name: Any, what: str) -> TokenizerKind:
    for kind in kinds:
        if kind.name == name:
            return kind
    known = ", ".join(kind.name for kind in kinds)
    raise UserError(f"{what} is of kind {shown(name)}, this version knows {known}; update audiolm_jax")
