"""What can go wrong, each with its exit code.

Every message is one line that says what is wrong, with the value, and what to do about it.
"""

from __future__ import annotations


class MaliceError(Exception):
    """An error a user can read. ``exit_code`` is what the command lines return."""

    exit_code = 1

    def __str__(self) -> str:
        # Messages from libraries can carry line breaks; a failure is one line on stderr.
        return " ".join(super().__str__().split())


class InputError(MaliceError):
    """The data, an option or a file given by the user cannot be used."""

    exit_code = 2


class StackError(InputError):
    """A source of images cannot be read or does not fit the others."""


class ModelError(InputError):
    """A model is missing, damaged, or not one of ours."""


class OutputError(InputError):
    """The output cannot be written where it was asked for."""


class DeviceError(InputError):
    """The device, runtime or precision asked for is not there."""


class ClusterError(InputError):
    """The workers asked for are not there."""


class TrainingError(MaliceError):
    """Training cannot go on."""


class Cancelled(MaliceError):
    """The run was stopped by the user (SIGTERM, SIGINT or a closed stdin)."""

    exit_code = 3
