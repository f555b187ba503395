"""`python -m audiolm_jax.cli` is the command `audiolm`."""

import sys

from audiolm_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
