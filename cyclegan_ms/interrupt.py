"""SIGINT and SIGTERM noted, so that a program can finish what it is at, or end cleanly.

MindSpore takes both over: SIGTERM when a data pipeline starts, SIGINT whenever a graph runs, and
its handlers end the process.
"""

import _thread
import os
import signal
import sys
import threading

__all__ = ["CAN_WAIT", "StopRequest", "has_ended"]

_NUMBERS = (signal.SIGINT, signal.SIGTERM)

CAN_WAIT = hasattr(signal, "pthread_sigmask") and hasattr(signal, "sigwait")
"""Whether signals can be kept from other handlers here: not on Windows."""

_watches: list["StopRequest"] = []


def has_ended() -> None:
    """Let a first signal change nothing from here on: the program has done its work."""
    for watch in _watches:
        with watch.lock:
            watch.raising, watch.words = False, ""


class StopRequest:
    """Notes whether this process was asked to stop, and by which signal (`caught`, or None)."""

    def __init__(self):
        self.caught: signal.Signals | None = None
        self.watching = False
        self.raising = False
        self.words = ""
        self.lock = threading.Lock()  # a signal raises in one place, never in both
        self.before: dict = {}

    def watch(self, words: str = "") -> None:
        """Take both signals over, before NumPy and MindSpore are imported; for programs.

        They are blocked in this thread, and so in all that it starts later (NumPy's and
        MindSpore's), and taken from the queue by a thread that waits for them: no other handler can
        run any more. The first signal is noted, and answered with `words`, if any; a second one
        ends the process at once. Where the system has no such queue, a signal ends the process as
        it would have without.
        """
        self.words = words
        if not CAN_WAIT:
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
        self.watching = True
        _watches.append(self)
        threading.Thread(target=self._wait, name="signals", daemon=True).start()

    def _wait(self):
        number = signal.Signals(signal.sigwait(_NUMBERS))
        with self.lock:
            self.caught, raising, words = number, self.raising, self.words
        if words:
            print(words, file=sys.stderr)
        if raising:
            _thread.interrupt_main()
        os._exit(128 + signal.sigwait(_NUMBERS))

    def interrupt(self) -> None:
        """Turn a signal, also one that came before, into a KeyboardInterrupt.

        For programs that `watch` and have nothing to finish. MindSpore must be imported before, or
        only after `finish`: an import does not survive the exception.
        """
        self._react(raising=True, words="")

    def finish(self, words: str = "") -> None:
        """Note a signal from here on, and answer it with `words`: there is something to finish.

        Raises:
            KeyboardInterrupt: one came before.
        """
        self._react(raising=False, words=words)

    def _react(self, raising, words):
        with self.lock:
            self.raising, self.words, caught = raising, words, self.caught
        if caught:
            raise KeyboardInterrupt

    def install(self) -> None:
        """Note signals by ordinary handlers; for callers inside of a process, such as a notebook.

        Call it once the first step is done. MindSpore's handler of SIGINT comes back with every
        graph, but sends SIGTERM to its own process, which is noted here.
        """
        if not self.watching and threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                self.before[number] = signal.signal(number, self._note)

    def _note(self, number, frame):
        self.caught = signal.Signals(number)
        self.__exit__()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        """Put back the handlers that `install` replaced."""
        for number, handler in self.before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self.before = {}
