"""Runs the published Sentinel-2 graph over a folder of images the ways its users do, with onnxruntime on the CPU.

``openeo``: patches of 128 x 128 pixels that overlap by 10 pixels on each side (the inner 108 x 108 are kept), one
session a core, each with one thread. ``downstream``: patches of 288 x 288 pixels with a margin of 16, one session with
all cores. At the edge of the images a patch is moved inside. All dates of a patch go in at once: read with rasterio,
normalise, run, write the kept part of the 640 bands as float32 GeoTIFF. There is no mask and no bound on memory.

``speed.py`` starts it in a process of its own; it prints one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import queue
import re
import resource
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import rasterio
from measuring import BenchmarkError, cores
from rasterio.windows import Window

from malice_core.bands import DATE_ORIGIN, S2
from malice_core.store.statistics import MALICE

BANDS = 640
#: Floats a pixel and date that one call of the published graph holds at its peak (measured): some, and some for each
#: date; and megabytes of the process before it.
FLOATS, PROGRAM = (1350, 8.1), 300e6
#: Patches that were too large are made smaller by so many pixels; the network needs multiples of 8.
STEP = 16
#: Side of the tiles of the output: small, so that a patch, which never fits them, touches little beyond itself.
TILE = 128


@dataclass(frozen=True)
class Way:
    """How the graph is used.

    Attributes:
        patch: side of what the graph is given, pixels.
        margin: pixels of it that are thrown away on each side inside the images.
        alone: a session has one thread, and there is one a core; else there is one session with all of them.
    """

    patch: int
    margin: int
    alone: bool

    @property
    def sessions(self) -> int:
        return cores() if self.alone else 1

    def largest(self, dates: int, room: float) -> int:
        """The largest patch, up to the usual one, with which all sessions stay under ``room`` bytes.

        Raises:
            BenchmarkError: if none does.
        """
        pixel = 4 * dates * (FLOATS[0] + FLOATS[1] * dates)
        for patch in range(self.patch, 2 * self.margin, -STEP):
            if PROGRAM + self.sessions * patch**2 * pixel <= room:
                return patch
        raise BenchmarkError(f"{room / 1e9:.1f} GB are too little for {dates} dates of the published graph")


WAYS = {"openeo": Way(128, 10, True), "downstream": Way(288, 16, False)}


def cuts(length: int, patch: int, margin: int) -> list[tuple[int, int, int]]:
    """Patches along one axis: (first pixel read, first kept, end of kept)."""
    found, begin = [], 0
    while begin < length:
        start = max(0, min(begin - margin, length - patch))
        end = length if start + patch >= length else start + patch - margin
        found.append((start, begin, end))
        begin = end
    return found


def windows(height: int, width: int, patch: int, margin: int) -> list[tuple[Window, Window]]:
    """Of every patch of an image: what is read, and what is kept of it."""
    return [
        (
            Window(col, row, min(patch, width), min(patch, height)),
            Window(col_kept, row_kept, col_end - col_kept, row_end - row_kept),
        )
        for row, row_kept, row_end in cuts(height, patch, margin)
        for col, col_kept, col_end in cuts(width, patch, margin)
    ]


def normalised(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(T, 10, H, W) of the files as the network wants them."""
    known = MALICE["s2"]
    med, low, high = (np.array(x, np.float32)[:, None, None] for x in (known.med, known.qmin, known.qmax))
    return (np.clip(values.astype(np.float32), low, high) - med) / (high - low)


def run(way: Way, files: list[Path], model: Path, output: Path, patch: int, only: int | None = None) -> dict[str, Any]:
    """Embeds the images.

    Args:
        way: how.
        files: S2_YYYYMMDD.tif, one a date.
        model: the published graph.
        output: GeoTIFF to write; sparse where ``only`` leaves patches out.
        patch: side in pixels.
        only: run so many patches, evenly spread; None: all.

    Returns:
        ``patches`` run of how many in ``all``; ``seconds`` spent reading, in the graph and writing, threads together;
        ``later``, seconds a patch takes that is not the first of its session, which also takes memory from the system
        (None: there was none).
    """
    days = [date.fromisoformat("-".join(re.findall(r"(\d{4})(\d\d)(\d\d)", path.stem)[0])) for path in files]
    since = np.array([[(day - DATE_ORIGIN).days for day in days]], np.float32)
    with rasterio.open(files[0]) as first:
        profile, (height, width) = first.profile, first.shape
    places = windows(height, width, patch, way.margin)
    whole = len(places)
    if only is not None and only < whole:
        places = [places[i] for i in np.linspace(0, whole - 1, only).round().astype(int)]
    todo: queue.SimpleQueue[tuple[Window, Window]] = queue.SimpleQueue()
    for place in places:
        todo.put(place)
    for key in ("compress", "predictor", "nodata"):
        profile.pop(key, None)
    profile |= {"count": BANDS, "dtype": "float32", "blockxsize": TILE, "blockysize": TILE, "tiled": True}
    seconds: Counter[str] = Counter()
    later: list[float] = []
    writing = threading.Lock()

    def work() -> None:
        options = onnxruntime.SessionOptions()
        # By itself onnxruntime takes the physical cores.
        options.intra_op_num_threads = 1 if way.alone else os.cpu_count() or 1
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])
        images, *others = (entry.name for entry in session.get_inputs())
        feeds = dict(zip(others, (since, np.zeros((1, len(days)), bool)), strict=True))
        sources = [rasterio.open(path) for path in files]
        for turn in itertools.count():
            try:
                read, keep = todo.get_nowait()
            except queue.Empty:
                break
            ticks = [time.perf_counter()]
            sits = normalised(np.stack([source.read(window=read) for source in sources]))
            assert sits.shape[1] == len(S2.bands)
            ticks.append(time.perf_counter())
            (result,) = session.run(None, {images: sits[None], **feeds})
            ticks.append(time.perf_counter())
            # (1, 10, 64, h, w): the 10 queries of 64 features become bands in that order.
            row, col = keep.row_off - read.row_off, keep.col_off - read.col_off
            kept = result.reshape(BANDS, *result.shape[-2:])[:, row : row + keep.height, col : col + keep.width]
            with writing:
                target.write(kept, window=keep)
            ticks.append(time.perf_counter())
            with writing:
                seconds.update(dict(zip(("read", "graph", "write"), np.diff(ticks).tolist(), strict=True)))
                later.extend([ticks[-1] - ticks[0]] if turn else [])
        for source in sources:
            source.close()

    with (
        rasterio.open(output, "w", **profile, bigtiff="IF_SAFER", sparse_ok=True) as target,
        ThreadPoolExecutor(way.sessions) as pool,
    ):
        for done in [pool.submit(work) for _ in range(way.sessions)]:
            done.result()
    pace = sum(later) / len(later) if later else None
    return {"patches": len(places), "all": whole, "seconds": dict(seconds), "later": pace}


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the published Sentinel-2 graph patch by patch.")
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--s2", type=Path, required=True, help="folder of S2_YYYYMMDD.tif")
    parser.add_argument("--model", type=Path, required=True, help="malice_s2.onnx")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--patch", type=int, metavar="PIXELS", help="side of the patches (default: 128, 288)")
    parser.add_argument("--only", type=int, metavar="N", help="run N patches, evenly spread (default: all)")
    parser.add_argument("--memory", type=int, metavar="BYTES", help="fail rather than take more")
    given = parser.parse_args()
    if given.memory:
        resource.setrlimit(resource.RLIMIT_DATA, (given.memory, given.memory))
    way = WAYS[given.way]
    files = sorted(given.s2.glob("S2_*.tif"))
    print(json.dumps(run(way, files, given.model, given.output, given.patch or way.patch, given.only)))


if __name__ == "__main__":
    main()
