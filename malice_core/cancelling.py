"""Stopping a run from outside: SIGTERM, SIGINT, or (when asked) the end of stdin. Loads no library."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from malice_core.errors import Cancelled

MESSAGE = "cancelled; finished blocks are kept, run again with --resume to go on"
#: After a cancel the run may end tidily for this long; then the process leaves as it is (scratch stays whole).
GRACE_SECONDS = 0.6


class Cancel:
    """Set from a signal or another thread; checked between calls of the graphs and between writes.

    Args:
        message: what the user is told.
    """

    def __init__(self, message: str = MESSAGE) -> None:
        self.message = message
        self._event = threading.Event()
        self._paths: list[Path] = []

    def deletes(self, path: Path) -> None:
        """Has a folder or file deleted where the run does not end tidily."""
        self._paths.append(path)

    def tidy(self) -> None:
        """Deletes those, as far as the system allows."""
        for path in self._paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        """Raises:
        Cancelled: once ``set`` was called.
        """
        if self._event.is_set():
            raise Cancelled(self.message)


@contextlib.contextmanager
def watch_signals(cancel: Cancel, report: Callable[[], None]) -> Iterator[None]:
    """Cancels on SIGTERM and SIGINT: tidily if the run can, within a second always. Afterwards signals are as before.

    A Python handler waits for the main thread, which may be deep in a library; the wake-up socket is written by the
    system's own handler, and another thread listens.

    Args:
        report: tells the user, when the run could not end tidily and the process leaves with exit code 3.
    """
    listen, wake = socket.socketpair()
    wake.setblocking(False)
    stops = {getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)}

    def wait() -> None:
        with listen, wake:
            # The system tells of every signal that Python handles, by its number: others' are not for us.
            while number := listen.recv(1)[0]:
                if number in stops:
                    _stop(cancel, report)

    others = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in stops}
    threading.Thread(target=wait, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(others)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        wake.send(b"\0")


def watch_stdin(cancel: Cancel, report: Callable[[], None]) -> None:
    """Cancels when stdin ends, or at once when it is closed already."""

    # Without a stdin at all, its number 0 may by now be another file of ours: Python saw at its start.
    number = sys.stdin.fileno() if sys.stdin is not None else None

    def wait() -> None:
        with contextlib.suppress(OSError):  # a broken stdin is as good as an ended one
            while number is not None and os.read(number, 4096):
                continue
        _stop(cancel, report)

    threading.Thread(target=wait, daemon=True).start()


def end_children() -> None:
    """Kills processes that were started to compute with this one; without it they would end a little later, and some
    not without a word."""
    if (multiprocessing := sys.modules.get("multiprocessing")) is not None:
        for child in multiprocessing.active_children():
            child.kill()


def _stop(cancel: Cancel, report: Callable[[], None]) -> None:
    cancel.set()
    time.sleep(GRACE_SECONDS)
    # Whoever reads our output may have stopped reading: then the line is lost, but not the promise to leave.
    teller = threading.Thread(target=report, daemon=True)
    teller.start()
    teller.join(0.2)
    end_children()
    cancel.tidy()
    os._exit(Cancelled.exit_code)
