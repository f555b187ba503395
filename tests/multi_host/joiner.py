"""One process that joins its job and leaves it again."""

import sys

from audiolm_jax.errors import UserError
from audiolm_jax.parallel import hosts

if __name__ == "__main__":
    try:
        with hosts.joined():
            greeting = hosts.from_main("greeting", f"greetings from {hosts.index()}")
            print(greeting, hosts.any_of("odd", hosts.index() == 1))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
