"""Prepares a TFDS dataset of waveforms from the command line, on the Beam runner of one's choice.

    python -m audiolm_jax.data.seqio.prepare_tfds audiolm_libri_light/unlab-600 --manual_dir unlab --data_dir tfds
    python -m audiolm_jax.data.seqio.prepare_tfds audiolm_maestro --manual_dir maestro-v3.0.0 --data_dir tfds
    python -m audiolm_jax.data.seqio.prepare_tfds librispeech --data_dir tfds

The last one is TFDS's own builder, which downloads LibriSpeech. Flags that are not listed here go to Beam, for example
--direct_num_workers=8, or --runner=DataflowRunner with its flags.
"""

import argparse
import sys
from collections.abc import Sequence

import tensorflow_datasets as tfds

# Importing it registers the builders.
from audiolm_jax.data.seqio import builders  # noqa: F401
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.extraction.beam_engine import beam_options


def prepare(
    dataset: str,
    data_dir: str,
    manual_dir: str | None = None,
    file_format: str | None = None,
    beam_args: Sequence[str] = (),
) -> tfds.core.DatasetInfo:
    """Prepares a dataset; what is prepared already is left as it is.

    Args:
        dataset: TFDS's name for it, with its config: "audiolm_libri_light/unlab-600".
        data_dir: where the prepared dataset goes.
        manual_dir: the unpacked corpus, for the builders that download nothing.
        file_format: "tfrecord" or "array_record"; None for TFDS's choice.
        beam_args: flags of Beam.

    Raises:
        UserError: there is no such dataset, the corpus is not as its builder wants it, or the disk refuses.
    """
    options, runner = beam_options(beam_args)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, beam_options=options, beam_runner=runner)
    try:
        builder = tfds.builder(dataset, data_dir=data_dir, file_format=file_format)
        builder.download_and_prepare(download_config=config)
    except UserError:
        raise
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(f"there is no dataset {dataset!r}; take audiolm_libri_light, audiolm_maestro or one of TFDS's "
                        "own, such as librispeech") from error
    except (ValueError, AssertionError, OSError) as error:
        raise UserError(f"{dataset} cannot be prepared: {' '.join(str(error).split())[:300]}") from error
    return builder.info


def main(args: Sequence[str] | None = None) -> int:
    """The command line: 0, or 2 with one line on stderr for a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m audiolm_jax.data.seqio.prepare_tfds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("dataset", help="TFDS's name, with its config: audiolm_libri_light/unlab-600")
    parser.add_argument("--data_dir", required=True, help="where the prepared dataset goes")
    parser.add_argument("--manual_dir", help="the unpacked corpus")
    parser.add_argument("--file_format", choices=["tfrecord", "array_record"], help="of the prepared files")
    known, beam_args = parser.parse_known_args(args)
    try:
        info = prepare(known.dataset, known.data_dir, known.manual_dir, known.file_format, beam_args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, split in info.splits.items():
        print(f"{info.full_name}: {name}: {split.num_examples} examples, {split.num_bytes / 1e9:.3g} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
