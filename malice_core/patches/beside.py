"""A dataset of many places that grows beside the one it replaces, and takes its place when all of it is there.

It is ``DIR.zarr.malice/places.zarr``, a dataset like any other, to which one place after another is added; what
``build`` needs for the place it is at lies beside it. ``DIR.zarr`` stays as it is, or not there, until the end.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from malice_core import scratch
from malice_core.errors import OutputError
from malice_core.patches.build import GROWING, JOURNAL, OLD, claimed, discard_places, restore, told
from malice_core.patches.plan import require_output


def begun(output: Path) -> bool:
    """True if there is an unfinished one."""
    return any((scratch.folder_of(output) / name).exists() for name in GROWING)


def tidy(output: Path) -> None:
    """Removes what is left of a build that is over. Raises OutputError if another one goes on."""
    folder = scratch.folder_of(output)
    if folder.is_dir():
        with scratch.lock(folder / "lock"):
            claimed(folder)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def growing(output: Path, resume: bool, overwrite: bool) -> Iterator[Path]:
    """Where the places are to be built; behind the ``with`` the dataset takes the place of ``output``.

    Args:
        output: the dataset.
        resume: go on with what was begun before, if there is anything.
        overwrite: replace the dataset that is there.

    Raises:
        OutputError: if another build of it goes on, it must not be replaced, or it cannot be written.
    """
    folder = scratch.folder_of(output)
    with ExitStack() as held:
        with told(folder):
            folder.mkdir(exist_ok=True)
            held.enter_context(scratch.lock(folder / "lock"))
            restore(folder, output)
            # What is there may have been moved away by a build that was killed.
            require_output(output, not (overwrite or resume))
            claimed(folder)
            if not resume:
                discard_places(folder)
            elif (folder / JOURNAL).exists():
                raise OutputError(
                    f"--resume: {folder} belongs to a build of one place: go on with that, or run without --resume to "
                    "start anew"
                )
        # Not in the ``with`` above: what fails in planning or building a place is no matter of this folder.
        try:
            yield folder / GROWING[0]
        except BaseException:
            # What is finished stays for --resume.
            if not begun(output):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        with told(folder):
            if output.exists():
                os.replace(output, folder / OLD)
            os.replace(folder / GROWING[0], output)
            shutil.rmtree(folder)
