"""A worker process of Beam's runner on this machine, started by `beam_engine`; as Beam's own, but it does not chatter.

Run as `python -m audiolm_jax.tokens.extraction.beam_worker`, with the addresses that Beam sets in the environment.
"""

import logging
import signal
import sys


def main() -> None:
    """Serves the runner until it closes the connection, or until Ctrl-C, which it leaves to the runner to tell of."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # What takes seconds to import comes after that.
    from apache_beam.runners.worker import sdk_worker_main

    # Beam logs every channel it opens. What a worker has to say it prints, and errors come back to the runner.
    logging.disable(logging.ERROR)
    try:
        sdk_worker_main.main(sys.argv)
    except Exception as error:  # noqa: BLE001
        # The runner is gone or has told of it already; shards that are done stay.
        print(f"tokenize: a worker ends: {type(error).__name__}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
