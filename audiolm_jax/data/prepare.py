"""The old name of `audiolm_jax.data.seqio.prepare_tfds`, for those who still type it."""

import sys

if __name__ == "__main__":
    print("error: this is python -m audiolm_jax.data.seqio.prepare_tfds now, with the same arguments", file=sys.stderr)
    sys.exit(2)
