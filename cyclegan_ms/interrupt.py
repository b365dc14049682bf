"""SIGINT, SIGTERM and SIGHUP noted: a program can finish what it is at, or end cleanly.

MindSpore takes two of them over: SIGTERM when a data pipeline starts, SIGINT whenever a graph runs,
and its handlers end the process.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["CAN_WAIT", "StopRequest", "has_ended"]

CAN_WAIT = hasattr(signal, "pthread_sigmask") and hasattr(signal, "sigwait")
"""Whether signals can be kept from other handlers here: not on Windows."""

_watches: list["StopRequest"] = []


def _numbers() -> list[signal.Signals]:
    """List the signals that ask for an end. `nohup` has SIGHUP ignored, and so it stays."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


def has_ended() -> None:
    """Let a first signal change nothing from here on: the program has done its work."""
    for watch in _watches:
        with watch.lock:
            watch.leave, watch.words = None, ""


def _let_go_of_a_closed_terminal():
    """Write nowhere from here on, if terminal or reader are gone: writing would be an error."""
    for descriptor in (1, 2):
        watched = select.poll()
        watched.register(descriptor, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _end_of_line():
    """Return what ends the line of a bar, and of the ^C that a terminal shows."""
    return "\n" if sys.stderr.isatty() else ""


class StopRequest:
    """Notes whether this process was asked to stop, and by which signal (`caught`, or None)."""

    def __init__(self):
        self.caught: signal.Signals | None = None
        self.watching = False
        self.leave: Callable[[], None] | None = None
        self.words = self.parting = ""
        self.lock = threading.Lock()  # a signal ends one thing, never two
        self.before: dict = {}

    def watch(self, words: str = "", parting: str = "ended at once") -> None:
        """Take the signals over, before NumPy and MindSpore are imported; for programs.

        They are blocked in this thread, and so in all that it starts later (NumPy's and
        MindSpore's), and taken from the queue by a thread that waits for them: no other handler can
        run any more. The first signal is noted, and answered with `words`, if any; a second one
        ends the process at once, with the words `parting`, but for SIGHUP, of which a terminal that
        is closed may send more than one. Where the system has no such queue, a signal ends the
        process as it would have without.
        """
        self.words, self.parting = words, parting
        if not CAN_WAIT:
            return
        numbers = _numbers()
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        self.watching = True
        _watches.append(self)
        threading.Thread(target=self._wait, args=(numbers,), name="signals", daemon=True).start()

    def _wait(self, numbers):
        number = signal.Signals(signal.sigwait(numbers))
        with self.lock:
            self.caught, leave, words = number, self.leave, self.words
        if signal.SIGHUP in numbers:
            _let_go_of_a_closed_terminal()
        if words:
            with suppress(OSError):  # nobody may read any more
                print(f"{_end_of_line()}{words}", file=sys.stderr, flush=True)
        if leave:
            leave()
            with suppress(OSError):
                print(f"{_end_of_line()}interrupted", file=sys.stderr, flush=True)
            os._exit(128 + number)
        while (second := signal.sigwait(numbers)) == signal.SIGHUP:
            _let_go_of_a_closed_terminal()
        with suppress(OSError):
            print(f"{_end_of_line()}{self.parting}", file=sys.stderr, flush=True)
        os._exit(128 + second)

    def interrupt(self, leave: Callable[[], None]) -> None:
        """End the process on a signal from here on, once `leave` has tidied up.

        For programs that `watch` and have nothing to finish. Not by an exception: MindSpore does
        not survive one that comes while it compiles, nor does an import.

        Raises:
            KeyboardInterrupt: one came before.
        """
        self._react(leave, words="")

    def finish(self, words: str = "") -> None:
        """Note a signal from here on, and answer it with `words`: there is something to finish.

        Raises:
            KeyboardInterrupt: one came before.
        """
        self._react(None, words)

    def _react(self, leave, words):
        with self.lock:
            self.leave, self.words, caught = leave, words, self.caught
        if caught:
            raise KeyboardInterrupt

    def install(self) -> None:
        """Note signals by ordinary handlers; for callers inside of a process, such as a notebook.

        Call it once the first step is done. MindSpore's handler of SIGINT comes back with every
        graph, but sends SIGTERM to its own process, which is noted here.
        """
        if not self.watching and threading.current_thread() is threading.main_thread():
            for number in _numbers():
                self.before[number] = signal.signal(number, self._note)

    def _note(self, number, frame):
        self.caught = self.caught or signal.Signals(number)
        hangup = getattr(signal, "SIGHUP", None)  # of which more than one may come
        self._put_back([other for other in self.before if other != hangup])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        """Put back the handlers that `install` replaced."""
        self._put_back(list(self.before))

    def _put_back(self, numbers):
        for number in numbers:
            signal.signal(number, self.before.pop(number) or signal.SIG_DFL)
