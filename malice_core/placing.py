"""Renaming what is whole to the output's name: at any moment either the old output is there or the new one."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from malice_core.errors import OutputError

#: Bytes that a file's name may have on the usual file systems, and those kept for suffixes such as ``.malice``.
NAME_MAX, LONGEST_SUFFIX = 255, 40
#: What to do where finished blocks are kept.
RESUME = "run again with --resume"


def require_folder(option: str, path: Path) -> None:
    """Refuses an output whose folder does not take it.

    Raises:
        OutputError: that names the option.
    """
    folder = path.absolute().parent
    # Beside it lie, for a time, files and folders with longer names.
    if len(os.fsencode(path.name)) + LONGEST_SUFFIX > NAME_MAX:
        raise OutputError(f"{option} {path.name:.40}…: the name is too long; give one of at most 200 letters")
    if not folder.is_dir():
        raise OutputError(f"{option} {path}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{option} {path}: the folder {folder} cannot be written to")


def flush(file: Path) -> None:
    """Has the system write a file to the disk, which is where a full one or a lost server is told.

    Raises:
        OSError: if that fails.
    """
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())


def flush_names(folder: Path) -> None:
    """Has the system write to the disk which files a folder holds, where systems have that.

    Raises:
        OSError: if that fails.
    """
    if os.name != "nt":
        try:
            opened = os.open(folder, os.O_RDONLY)
        except PermissionError:  # it may be written to, but not read
            return
        try:
            os.fsync(opened)
        except OSError as error:
            # Others say that this file system cannot do it for folders.
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                raise
        finally:
            os.close(opened)


def part_of(target: Path) -> Path:
    """Where a file is copied to before it gets its name."""
    return target.with_name(f".{target.name}.part")


def place_file(source: Path, target: Path, cure: str = RESUME) -> None:
    """Renames a whole file to its name; on another file system it is copied beside that name first.

    Args:
        cure: what to do if that fails.

    Raises:
        OutputError: if that fails; nothing half-written is left.
    """
    partial = part_of(target)
    try:
        try:
            os.replace(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copyfile(source, partial)
            flush(partial)
            os.replace(partial, target)
        flush_names(target.parent)
        # What lay beside the file that was replaced (overviews, statistics, georeference) was said of that one.
        for suffix in (".ovr", ".aux.xml", ".msk"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise not_placed(target, error, cure) from error


def place_folder(source: Path, target: Path, aside: Path) -> None:
    """Renames a whole folder to its name.

    Args:
        aside: where a folder of that name goes; it comes back if the renaming fails, and ``put_back`` brings it back
            after a kill between the two steps.

    Raises:
        OutputError: if that fails.
    """
    try:
        if target.exists():
            os.replace(target, aside)
        try:
            os.replace(source, target)
        except OSError:
            put_back(aside, target)
            raise
        flush_names(target.parent)
    except OSError as error:
        raise not_placed(target, error) from error


def put_back(aside: Path, target: Path) -> None:
    """Gives an old folder its name again if nothing new has it.

    Raises:
        OSError: if that fails.
    """
    if aside.exists() and not target.exists():
        os.replace(aside, target)


def not_placed(target: Path, error: OSError, cure: str = RESUME) -> OutputError:
    """What is said of an output that cannot get its name."""
    return OutputError(f"cannot put {target} in place: {error.strerror}; {cure}")
