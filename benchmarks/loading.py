"""How fast training patches are read, and how long a trainer waits for them.

``python benchmarks/loading.py [--step 0.7] [--layouts]``: a simulated scene of 256 x 256 pixels with 100 dates a sensor
becomes a dataset, of which the loader makes batches as published (2 places, crops of 64, 60 dates a modality) with 0, 1
and 2 workers: batches a second when nothing else is done, and the share of time a trainer waits whose step keeps one
core busy for ``--step`` seconds. ``--layouts`` compares chunks and codecs on one patch, for ``patches/store.py``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import zarr
from zarr.codecs import BloscCodec

from malice_core import simulate
from malice_core.patches.store import Dataset
from malice_core.training.data import PatchData


def rate(data: PatchData, count: int) -> float:
    """Batches a second, after the first one."""
    batches = iter(data.train_dataloader())
    next(batches)
    begun = time.perf_counter()
    for _ in itertools.islice(batches, count):
        pass
    return count / (time.perf_counter() - begun)


def waiting(data: PatchData, count: int, step: float) -> float:
    """Share of time in which a trainer waits for data."""
    batches = iter(data.train_dataloader())
    next(batches)
    weights = torch.rand(200, 200)
    waited, begun = 0.0, time.perf_counter()
    for _ in range(count):
        before = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - before
        until = time.thread_time() + step
        while time.thread_time() < until:
            weights = (weights @ weights).softmax(0)
    return waited / (time.perf_counter() - begun)


def milliseconds(read: Callable[[int, int], object], repeats: int = 8) -> float:
    """Processor time of reading a random crop of 64 x 64."""
    rng = np.random.default_rng(0)
    read(0, 0)
    begun = time.process_time()
    for _ in range(repeats):
        read(*(int(x) for x in rng.integers(0, 65, 2)))
    return (time.process_time() - begun) / repeats * 1e3


def layouts(data: Dataset, work: Path) -> None:
    """Size and time of a crop, 60 of all dates, for chunks and codecs."""
    chunks = {"one date, 128": (1, 128), "one date, 64": (1, 64), "8 dates, 64": (8, 64), "all, 128": (0, 128)}
    chunks |= {"all dates, 64": (0, 64), "all dates, 32": (0, 32), "all dates, 16": (0, 16)}
    codecs = {"zstd 3 shuffle": ("zstd", 3, "shuffle"), "zstd 3 bitshuffle": ("zstd", 3, "bitshuffle")}
    codecs |= {"zstd 5 bitshuffle": ("zstd", 5, "bitshuffle"), "lz4 bitshuffle": ("lz4", 5, "bitshuffle")}
    print("sensor  chunk          codec              ratio  60 dates by index ms  all dates, then 60 ms")
    for key in ("s2", "s1"):
        values = data.read(0, 0, key)
        dates = np.sort(np.random.default_rng(0).choice(len(values), min(60, len(values)), replace=False))
        options = [(chunk, "zstd 3 shuffle") for chunk in chunks] + [("all dates, 32", codec) for codec in codecs]
        for chunk, codec in dict.fromkeys(options):
            count, side = chunks[chunk]
            name, level, shuffle = codecs[codec]
            count = count or len(values)
            whole = (-(-len(values) // count) * count, *values.shape[1:])
            shutil.rmtree(work / "layout.zarr", ignore_errors=True)
            array = zarr.create_array(
                work / "layout.zarr",
                shape=values.shape,
                dtype=values.dtype,
                chunks=(count, values.shape[1], side, side),
                shards=whole,
                compressors=BloscCodec(cname=name, clevel=level, shuffle=shuffle),
            )
            array[...] = values
            size = sum(path.stat().st_size for path in (work / "layout.zarr").rglob("*") if path.is_file())
            some = milliseconds(lambda r, c, a=array, d=dates: a.oindex[d, :, r : r + 64, c : c + 64])
            every = milliseconds(lambda r, c, a=array, d=dates: a[:, :, r : r + 64, c : c + 64][d])
            print(f"{key:7} {chunk:14} {codec:18} {values.nbytes / size:5.2f} {some:21.0f} {every:22.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=float, default=0.7, metavar="SECONDS", help="of processor time of a step")
    parser.add_argument("--batches", type=int, default=20, metavar="N")
    parser.add_argument("--dates", type=int, default=100, metavar="N", help="of either sensor")
    parser.add_argument("--layouts", action="store_true", help="compare chunks and codecs too")
    parser.add_argument("--work", type=Path, default=Path("build/loading"), help="folder for scene and dataset")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scene, folder = given.work / "scene", given.work / "patches.zarr"
    given.work.mkdir(parents=True, exist_ok=True)
    simulate.write(simulate.Spec(height=256, width=256, s2_dates=given.dates, s1_dates=given.dates), scene)
    images = [text for name in ("s2", "s1", "scl") for text in (f"--{name}", f"{scene / name.upper()}")]
    begun = time.perf_counter()
    # A process of its own, because the command line changes what signals do.
    command = [sys.executable, "-m", "malice_core.dataset", "build", *images, "--output", f"{folder}", "--overwrite"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    data = Dataset(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    patches = sum(len(place.patches) for place in data.places)
    print(
        f"\nbuilt in {time.perf_counter() - begun:.1f} s; {size / patches / 1e6:.1f} MB a patch; {os.cpu_count()} cores"
    )
    print(f"workers  batches/s  waiting at steps of {given.step:g} s")
    for workers in (0, 1, 2):
        # Enough samples in one epoch, so that no start of workers is counted.
        module = PatchData(folder, num_workers=workers, crops_per_patch=2 * given.batches)
        fast, idle = rate(module, given.batches), waiting(module, given.batches, given.step)
        print(f"{workers:7} {fast:10.1f} {idle:8.1%}", flush=True)
    if given.layouts:
        layouts(data, given.work)


if __name__ == "__main__":
    main()
