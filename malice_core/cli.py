"""What the command lines share: arguments that fail in one line, and exit codes."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import select
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from malice_core.errors import Cancelled, InputError, MaliceError

#: What the system refuses, and what to do.
SYSTEM = {
    errno.ENAMETOOLONG: "this path is too long; shorten it",
    errno.ENOSPC: "there is no space left on its disk; free some",
    errno.EACCES: "permission denied; check who may read and write it, and its folders",
}


class Parser(argparse.ArgumentParser):
    """Raises ``InputError`` where argparse would print its usage and exit; takes ``-1e5`` for a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        # argparse takes -1e5 for an option: coordinates are written like that.
        self._negative_number_matcher = re.compile(r"-\.?\d[\d.]*(e[-+]?\d+)?$", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {self.prog} --help lists the options")


def run_command(top: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Parses the arguments, calls their ``run`` and turns every failure into one line and an exit code."""
    any_letter()
    try:
        options = top.parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except MaliceError as error:
        return _ended(error)
    except KeyboardInterrupt:
        return _ended(Cancelled("interrupted"))
    except Exception as error:  # noqa: BLE001  a user gets one line, never a traceback
        if isinstance(error, BrokenPipeError) and _unread():
            return 1  # there is nobody left to tell
        # An error without a name may be of anything.
        refused = of_system(error) if output_lost() or getattr(error, "filename", None) else None
        return _ended(refused or MaliceError(f"unexpected {type(error).__name__}: {error}"))
    return 0


def _ended(error: MaliceError) -> int:
    output_lost()
    return fail(error)


def output_lost() -> bool:
    """True if what was printed cannot be written. It is dropped then: it would fail once more when the interpreter
    ends, in lines of its own."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "w", encoding="utf-8") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        return True
    return False


def _unread() -> bool:
    """True if stdout is a pipe whose reader is gone, also where nothing is left that could not be written."""
    if output_lost():
        return True
    try:
        asked = select.poll()
        asked.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in asked.poll(0))
    except (AttributeError, OSError):
        return False  # no such call, or no file


def of_system(error: Exception) -> InputError | None:
    """What the system refused, and what to do; None: it is something else. What has no name is taken for stdout."""
    if not isinstance(error, OSError) or error.errno not in SYSTEM:
        return None
    what = "stdout" if error.filename is None else f"{error.filename!s:.100}"
    return InputError(f"{what}: {SYSTEM[error.errno]}")


def any_letter() -> None:
    """A path or a class may have letters that the terminal's encoding lacks, and who starts a program may close its
    output: neither must end a run."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # In order, so that their numbers are taken: else the next file would be what libraries print to.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def one_line(text: object) -> str:
    """What names of files and errors of libraries say, some of them in several lines."""
    return " ".join(f"{text}".splitlines())


def fail(error: MaliceError) -> int:
    """Prints the one line on stderr; returns the exit code. An error without text was told already."""
    if str(error):
        print(f"error: {one_line(error)}", file=sys.stderr)
    return error.exit_code
