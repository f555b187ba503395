"""SIGTERM and Ctrl-C, turned into a request that the training loop answers between two steps."""

import os
import signal
import sys
import threading

import tqdm

# How long the main thread may take to be interrupted by a second Ctrl-C: within a compilation it is not.
_PATIENCE_SECONDS = 2.0


class StopSignal:
    """Within `with StopSignal(name) as stop:`, a first SIGTERM or SIGINT sets `stop.received`; a second SIGINT ends.

    The loop then saves a checkpoint and ends in order, so that a preempted job exits with code 0 and loses nothing.

    Python calls handlers of signals between two of its own instructions, and to compile a program is one instruction
    that takes minutes. So a thread hears the signals too: it tells at once that a request was heard, and ends the
    process where the main thread cannot be interrupted. That is a kill like another one: checkpoints stay whole.
    """

    def __init__(self, name: str, shown: bool = True):
        """`name`: of the learner, for the line that tells of the request; not `shown` by processes but the first."""
        self.received: str | None = None
        self._name, self._shown = name, shown
        self._previous = {}
        self._interrupted = threading.Event()

    def __enter__(self) -> "StopSignal":
        # Python delivers signals to the main thread only; elsewhere (a notebook's worker) there is nothing to install.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._receive)
            self._heard, self._wakeup = os.pipe()
            os.set_blocking(self._wakeup, False)
            self._previous_wakeup = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
            self._listener = threading.Thread(target=self._listen, daemon=True, name="stop signal")
            self._listener.start()
        return self

    def __exit__(self, *exception) -> None:
        if not self._previous:
            return
        signal.set_wakeup_fd(self._previous_wakeup)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._wakeup)
        self._listener.join()
        os.close(self._heard)

    def _receive(self, number, frame) -> None:
        if number == signal.SIGINT and self.received:
            self._interrupted.set()
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number).name

    def _listen(self) -> None:
        """Reads the numbers of the signals as they come, until the pipe is closed."""
        asked = False
        while heard := os.read(self._heard, 1):
            if heard[0] not in (signal.SIGTERM, signal.SIGINT):
                continue
            if not asked:
                asked = True
                again = "Ctrl-C again" if heard[0] == signal.SIGINT else "Ctrl-C"
                if self._shown:
                    self._tell(f"{signal.Signals(heard[0]).name}: stopping after this step; {again} to end now")
            elif heard[0] == signal.SIGINT and not self._interrupted.wait(_PATIENCE_SECONDS):
                self._tell("ended; the same command goes on from the last checkpoint")
                os._exit(130)

    def _tell(self, line: str) -> None:
        tqdm.tqdm.write(f"{self._name}: {line}", file=sys.stderr)
        sys.stderr.flush()
