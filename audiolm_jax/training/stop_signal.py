"""SIGTERM and Ctrl-C, turned into a request that the training loop answers between two steps."""

import signal
import threading


class StopSignal:
    """Within `with StopSignal() as stop:`, a first SIGTERM or SIGINT sets `stop.received`; a second SIGINT interrupts.

    The loop then saves a checkpoint and ends in order, so that a preempted job exits with code 0 and loses nothing.
    """

    def __init__(self):
        self.received: str | None = None
        self._previous = {}

    def __enter__(self) -> "StopSignal":
        # Python delivers signals to the main thread only; elsewhere (a notebook's worker) there is nothing to install.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number, frame) -> None:
        if number == signal.SIGINT and self.received:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
