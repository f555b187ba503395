"""What a container's own headers say, before anything is decoded."""

from dataclasses import dataclass

from audiolm_jax.audio.source import Source
from audiolm_jax.errors import UserError


@dataclass(frozen=True)
class Contents:
    """A file whose headers were read, and mended where the decoder would be misled by them.

    Attributes:
        source: what the decoder reads.
        num_samples: of each channel, where the container knows better than the decoder; None where it does not.
        true_samples: of each channel, where the decoder announces the rest of a padded last block too; None elsewhere.
    """

    source: Source
    num_samples: int | None = None
    true_samples: int | None = None


def cut_short(source: Source) -> UserError:
    """The error for a file that ends before the sound that its headers announce."""
    return UserError(f"{source.path} is cut short: it ends before the audio its header announces; copy the file again")


def no_samples(source: Source) -> UserError:
    """The error for a file with headers alone."""
    return UserError(f"{source.path} holds no audio samples; give a longer file")


def damaged(source: Source, what: str) -> UserError:
    """The error for a file that contradicts itself."""
    return UserError(f"{source.path} is damaged: {what}; copy the file again")
