"""How a run talks: lines for people, or one JSON object a line for programs (``--progress json``)."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any, Protocol, TextIO

#: Seconds between two progress events.
INTERVAL = 0.5


class Reporter(Protocol):
    """Receives the events of a run; may be called from several threads."""

    def plan(self, plan: dict[str, Any], text: str) -> None: ...
    def note(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def progress(self, done: int, total: int, step: str) -> None: ...
    def done(self, files: list[str], seconds: float) -> None: ...
    def error(self, code: int, message: str) -> None: ...


class Clock:
    """Time left, from the work done since this process started it (not what an earlier run had done)."""

    def __init__(self) -> None:
        self._start: tuple[float, int] | None = None
        self._last = -INTERVAL

    def eta(self, done: int, total: int) -> float | None:
        """Seconds left, or None while too little is known."""
        now = time.monotonic()
        if self._start is None:
            self._start = now, done
            return None
        begun, before = self._start
        return (now - begun) / (done - before) * (total - done) if done > before else None

    def due(self, done: int, total: int) -> bool:
        """True when it is time for another event (always for the last)."""
        now = time.monotonic()
        if done < total and now - self._last < INTERVAL:
            return False
        self._last = now
        return True


class JsonReporter:
    """One JSON object a line on ``stream``, in ASCII (any pipe can carry it), flushed at once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock, self._clock = stream, threading.Lock(), Clock()

    def _send(self, event: str, **content: Any) -> None:
        with self._lock:
            self._stream.write(json.dumps({"event": event, **content}) + "\n")
            self._stream.flush()

    def plan(self, plan: dict[str, Any], text: str) -> None:
        self._send("plan", plan=plan, text=text)

    def note(self, message: str) -> None:
        self._send("note", message=message)

    def warning(self, message: str) -> None:
        self._send("warning", message=message)

    def progress(self, done: int, total: int, step: str) -> None:
        eta = self._clock.eta(done, total)
        if self._clock.due(done, total):
            self._send("progress", done=done, total=total, step=step, eta_s=None if eta is None else round(eta, 1))

    def done(self, files: list[str], seconds: float) -> None:
        self._send("done", files=files, seconds=round(seconds, 1))

    def error(self, code: int, message: str) -> None:
        self._send("error", code=code, message=message)
        print(f"error: {message}\n", end="", file=sys.stderr, flush=True)


class TextReporter:
    """The plan and the result on stdout; warnings, progress and errors on stderr."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._live = sys.stderr.isatty()
        self._open_line = False
        self._ended = False
        self._lock = threading.Lock()

    def _say(self, text: str, last: bool = False) -> None:
        # The thread that watches signals may speak at the same time; after it nothing is to be said any more.
        with self._lock:
            if self._ended:
                return
            self._ended = last
            if self._open_line:
                print(file=sys.stderr)
                self._open_line = False
            print(f"{text}\n", end="", file=sys.stderr, flush=True)

    def plan(self, plan: dict[str, Any], text: str) -> None:
        print(text, flush=True)

    def note(self, message: str) -> None:
        if self._open_line:
            print(file=sys.stderr)
            self._open_line = False
        print(message, flush=True)

    def warning(self, message: str) -> None:
        self._say(f"warning: {message}")

    def progress(self, done: int, total: int, step: str) -> None:
        eta = self._clock.eta(done, total)
        # A log file wants few lines, a terminal one that moves.
        if not self._live or not self._clock.due(done, total):
            return
        left = "" if eta is None else f", {_duration(eta)} left"
        print(f"\r\033[K{step} {100 * done // max(total, 1)} %{left}", end="", file=sys.stderr, flush=True)
        self._open_line = True

    def done(self, files: list[str], seconds: float) -> None:
        if self._open_line:
            print(file=sys.stderr)
        print(f"done in {_duration(seconds)}{': ' * bool(files)}{', '.join(files)}", flush=True)

    def error(self, code: int, message: str) -> None:
        self._say(f"error: {message}", last=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
