"""A folder of audio to a folder of token records: what `audiolm tokenize` runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiolm_jax.data.corpora import FolderCorpus
from audiolm_jax.tokens.records import TokenManifest

if TYPE_CHECKING:
    from audiolm_jax.tokens.extract import Tokenizers


def tokenize_folder(
    input_dir: str | Path,
    output_dir: str | Path,
    codec: Any,
    codec_params: Any,
    semantic: Any,
    semantic_params: Any,
    gate: dict[str, float],
    heldout_speakers: int = 20,
    split_seed: int = 0,
    load_in_worker: "Callable[[], Tokenizers] | None" = None,
    files_per_shard: int = 64,
    batch_size: int = 1,
    beam_args: Sequence[str] = (),
) -> TokenManifest:
    """Tokenises every audio file below a folder, held-out speakers into shards of their own.

    Args:
        input_dir: speech, read as `FolderCorpus` reads it.
        output_dir: where the records go; started again after a stop, what is done is kept.
        codec, codec_params: the codec and its weights.
        semantic, semantic_params: the semantic tokenizer and its weights.
        gate: figures of the codec that go into the manifest, for example {"codec_si_sdr_db": 7.1}.
        heldout_speakers, split_seed: of the split; use those that the tokenizers were trained with.
        load_in_worker: for Beam runners with other processes, loads the same tokenizers there.
        files_per_shard: the unit of work and of resuming.
        batch_size: recordings of similar length that are tokenised at once.
        beam_args: flags for Beam.

    Raises:
        UserError: the folder holds no audio, or none of it can be read.
    """
    # Beam takes seconds to import and belongs to an extra; nobody else should pay for it.
    from audiolm_jax.tokens.extract import Tokenizers, extract

    return extract(
        FolderCorpus(input_dir, heldout_speakers, split_seed).source_files(),
        output_dir,
        Tokenizers(codec, codec_params, semantic, semantic_params),
        gate,
        load_in_worker,
        files_per_shard,
        batch_size,
        beam_args,
    )
