"""What a user asks the engine for. Light on purpose: the command line reads it before any library is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EDGES = ("mirror", "published")
NODATA = ("mask", "zero")
RUNTIMES = ("auto", "openvino", "onnxruntime")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "bfloat16", "float16")
WEATHER_GAPS = ("error", "nearest", "drop-date")
DEM_NODATA = ("error", "fill")
ANGLES = ("error", "median")
DTYPES = ("float32", "float16", "int16", "int8")
#: Of one file; and of many that are written independently.
FILE_FORMATS = ("gtiff", "cog")
FORMATS = (*FILE_FORMATS, "vrt", "zarr")
#: Ends of the output's name by format, the usual one first.
SUFFIXES = {"gtiff": (".tif", ".tiff"), "cog": (".tif", ".tiff"), "vrt": (".vrt",), "zarr": (".zarr",)}
#: The folder of finished blocks beside an output ends like this.
SCRATCH_SUFFIX = ".malice"


@dataclass(frozen=True)
class Job:
    """One field an option of ``malice_core.embed``, units as there; ``None`` where the option was not given."""

    output: Path
    model: str | None = None
    s2: tuple[str, ...] = ()
    s1: tuple[str, ...] = ()
    scl: tuple[str, ...] = ()
    weather: tuple[str, ...] = ()
    weather_gaps: str = "error"
    dem: str | None = None
    dem_nodata: str = "error"
    s2_angles: tuple[str, ...] = ()
    s1_angles: tuple[str, ...] = ()
    angles: str = "error"
    counts: Path | None = None
    dates: str | None = None
    max_dates: int | None = None
    max_cloud: float | None = None
    cloud_classes: tuple[int, ...] | None = None
    mask_clouds: bool = False
    s1_orbit: int | None = None
    s2_offset: str = "auto"
    aoi: tuple[float, float, float, float] | None = None
    aoi_crs: str | None = None
    resolution: float | None = None
    edge: str = "mirror"
    nodata: str = "mask"
    block: tuple[int, int] | None = None
    memory: int = 2_000_000_000
    threads: int | None = None
    device: str = "auto"
    precision: str = "float32"
    runtime: str = "auto"
    dask: str | None = None
    dtype: str = "float32"
    queries: tuple[int, ...] | None = None
    format: str = "gtiff"
    overwrite: bool = False
    resume: bool = False

    @property
    def counts_inside(self) -> bool:
        """True if the counts have the output's name, however it is written: they go into the store."""
        return self.counts is not None and self.counts.absolute() == self.output.absolute()
