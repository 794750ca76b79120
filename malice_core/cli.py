"""What the command lines share: arguments that fail in one line, and exit codes."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from malice_core.errors import Cancelled, InputError, MaliceError


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
    except MaliceError as error:
        return fail(error)
    except KeyboardInterrupt:
        return fail(Cancelled("interrupted"))
    except Exception as error:  # noqa: BLE001  a user gets one line, never a traceback
        return fail(MaliceError(f"unexpected {type(error).__name__}: {error}"))
    return 0


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
