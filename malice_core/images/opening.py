"""Opens rasters with GDAL, wherever they are, with what lies beside them; says so in one line where that fails."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from malice_core.errors import StackError

_REMOTE = re.compile(r"(?i)/vsi(?:curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)|(?:https?|ftp|s3|gs|az)://")
#: GDAL's file systems by scheme; of the first three the whole URL belongs to the name.
_SYSTEMS = {"http": "curl", "https": "curl", "ftp": "curl", "s3": "s3", "gs": "gs", "az": "az"}


def is_remote(path: str) -> bool:
    """True for names of files on servers: URLs, and GDAL's own."""
    return _REMOTE.match(path) is not None


def _gdal_name(path: str) -> str:
    """What GDAL calls a file: ``https://…`` → ``/vsicurl/https://…``, ``s3://…`` → ``/vsis3/…``."""
    scheme, colon, rest = path.partition("://")
    system = _SYSTEMS.get(scheme.lower()) if colon else None
    if system is None:
        return path
    return f"/vsi{system}/{path if system == 'curl' else rest}"


class _Unwarned:
    """Inside, nobody is warned of rasters without georeference, netCDF containers among them: these are dealt with,
    with a message of their own.

    Filters of warnings belong to the process: the first of several threads changes them, the last one changes them
    back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


_UNWARNED = _Unwarned()


@contextmanager
def beside(path: str) -> Iterator[None]:
    """Inside, GDAL honours files beside ``path`` whatever the environment says: masks (.msk), and nodata, names of
    bands and tags in .aux.xml. Opening and reading writes none. Nobody lists folders on servers."""
    if is_remote(path):
        yield
        return
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="FALSE", GDAL_PAM_ENABLED="YES"):
        yield


def open_raster(path: str) -> rasterio.DatasetReader:
    """Opens ``path`` with GDAL, and what lies :func:`beside` it.

    Raises:
        StackError: naming the file and GDAL's reason.
    """
    try:
        with _UNWARNED, beside(path):
            return rasterio.open(_gdal_name(path), sharing=False)
    except RasterioError as error:
        raise StackError(f"cannot open {path}: {error}; is it a raster, and whole?") from error
