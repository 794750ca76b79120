"""Which files of this machine a raster is read from: itself, its masks and tags beside it, and what a VRT refers to."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path

from malice_core.errors import StackError
from malice_core.images.opening import beside, open_raster

_REFERENCE = re.compile(r"<(?:SourceFilename|SourceDataset)\b([^>]*)>([^<]+)<")


def local_files(path: str) -> tuple[str, ...]:
    """Absolute paths, sorted, of the files that reading ``path`` (what rasterio opens) depends on.

    Of an archive (``/vsizip/…``) it is the archive; a raster that is no local file (``/vsicurl/…``) is listed as named.

    Raises:
        StackError: if it, or a raster that a VRT refers to, cannot be opened.
    """
    found: set[str] = set()
    _collect(path, found, set())
    return tuple(sorted(found))


def _collect(name: str, found: set[str], seen: set[str]) -> None:
    if name in seen:
        return
    seen.add(name)
    with open_raster(name) as dataset:
        virtual = dataset.driver == "VRT"
        with beside(name):
            files = list(dataset.files)
    local = {file for file in map(_on_disk, files) if file}
    found.update(local)
    if not local and not virtual:
        found.add(name)
    if virtual:
        # GDAL lists neither the masks of a VRT's sources nor the sources of a VRT in a VRT.
        for reference in _references(name):
            _collect(reference, found, seen)


def _references(name: str) -> list[str]:
    """What the VRT ``name`` (a file or the text itself) refers to, in order; empty if GDAL made it of a name."""
    text, folder = name, ""
    if not name.lstrip().startswith("<"):
        file = _on_disk(name)
        if file is None or not file.lower().endswith(".vrt"):
            return []
        try:
            text = Path(file).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise StackError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
        folder = os.path.dirname(file)
    found = []
    for attributes, content in _REFERENCE.findall(text):
        reference = html.unescape(content).strip()
        relative = re.search(r"""relativeToVRT\s*=\s*["']1""", attributes) is not None
        found.append(os.path.join(folder, reference) if relative else reference)
    return list(dict.fromkeys(found))


def _on_disk(name: str) -> str | None:
    """The file of this machine that holds ``name`` (a path, or a place in an archive), None if there is none."""
    inner = re.sub(r"^(?:/vsi(?:zip|tar|gzip|7z|rar)/)+", "", name)
    path = Path(inner.replace("{", "").replace("}", "") if inner != name else name)
    for candidate in (path, *(path.parents if inner != name else ())):
        if candidate.is_file():
            return os.path.abspath(candidate)
    return None
