"""What weather, terrain and angles cost: ``malice_core.embed`` with MALICE Aux against MALICE, on the same images.

``python benchmarks/aux_cost.py [--size 512] [--dates 20] [--repeats 3] [--block 128]``. Both models have random
weights, both run as processes of their own, in turn, on the same simulated images of both sensors. ``table``: weather
of a CSV, the same all over the area; ``cells``: of daily rasters, so that it differs within a block. Without
``--block`` a run takes the blocks that fit its memory; with it all have the same, and what is left is what the networks
cost. Prints medians, and medians of the ratios turn by turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine
from measuring import BenchmarkError, machine, measure

from malice_core import simulate
from malice_core.errors import MaliceError
from malice_core.store import modelwriter, states
from malice_core.store.statistics import AUX, MALICE
from malice_core.training.malice import MaliceEncoder

#: AgERA5 in the order of ``surroundings``, by openEO's names, and plausible values.
WEATHER = {
    "dewpoint-temperature": 281.0,
    "precipitation-flux": 3.0,
    "solar-radiation-flux": 1.2e7,
    "temperature-max": 293.0,
    "temperature-mean": 288.0,
    "temperature-min": 283.0,
    "vapour-pressure": 10.4,
    "wind-speed": 4.0,
}


def write_models(store: Path) -> None:
    """``plain`` and ``aux``, with random weights."""
    torch.manual_seed(0)
    for name, statistics_, auxiliary in (("plain", MALICE, False), ("aux", AUX, True)):
        encoder = MaliceEncoder({key: len(part.channels) for key, part in statistics_.items()}, auxiliary=auxiliary)
        state = {key: tensor.numpy() for key, tensor in encoder.state_dict().items()}
        found = states.encoders(state, statistics_, name)
        folder = store / name
        folder.mkdir(parents=True, exist_ok=True)
        weights = {sensor: found.weights(sensor, name) for sensor in found.sensors}
        modelwriter.write(folder, name, weights, title=name, licence="CC0-1.0", citation="none", provenance={})


def write_weather(folder: Path, scene: Path) -> None:
    """Daily rasters of 0.1 degrees over the scene, rough in space."""
    folder.mkdir(exist_ok=True)
    days = sorted({file.stem.split("_")[1] for sensor in ("S2", "S1") for file in (scene / sensor).glob("*.tif")})
    first, last = (date.fromisoformat(f"{day[:4]}-{day[4:6]}-{day[6:8]}") for day in (days[0], days[-1]))
    with rasterio.open(next((scene / "S2").glob("*.tif"))) as image:
        west, south, east, north = rasterio.warp.transform_bounds(image.crs, "EPSG:4326", *image.bounds)
    place = Affine(0.1, 0, (west + east) / 2 - 0.5, 0, -0.1, (south + north) / 2 + 0.5)
    rng = np.random.default_rng(0)
    for k in range(-4, (last - first).days + 2):
        planes = np.array(list(WEATHER.values()))[:, None, None] * (1 + 0.01 * rng.standard_normal((8, 10, 10)))
        shape = {"count": 8, "height": 10, "width": 10, "dtype": "float32"}
        path = folder / f"AGERA5_{first + timedelta(days=k):%Y%m%d}.tif"
        with rasterio.open(path, "w", driver="GTiff", crs="EPSG:4326", transform=place, **shape) as file:
            file.write(planes.astype(np.float32))
            file.descriptions = tuple(WEATHER)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, metavar="PIXELS")
    parser.add_argument("--dates", type=int, default=20, metavar="N", help="of each sensor")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--block", type=int, metavar="PIXELS", help="of all runs (default: what fits their memory)")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="folder for scene, models and outputs")
    given = parser.parse_args()
    work: Path = given.work.resolve()
    scene = work / f"scene_{given.size}_{given.dates}"
    try:
        write_models(work / "aux_models")
        if not scene.exists():
            spec = simulate.Spec(height=given.size, width=given.size, s2_dates=given.dates, s1_dates=given.dates)
            simulate.write(spec, scene)
        write_weather(work / "weather", scene)
        images = [
            "--s2",
            f"{scene / 'S2'}",
            "--s1",
            f"{scene / 'S1'}",
            "--output",
            f"{work / 'aux.tif'}",
            "--overwrite",
            *([] if given.block is None else ["--block", f"{given.block}"]),
        ]
        around = ["--dem", f"{scene / 'DEM.tif'}", "--s2-angles", f"{scene / 'S2_angles.csv'}"]
        around += ["--s1-angles", f"{scene / 'S1_angles.csv'}", "--model", "aux"]
        commands = {
            "plain": [*images, "--model", "plain"],
            "table": [*images, *around, "--weather", f"{scene / 'AGERA5.csv'}"],
            "cells": [*images, *around, "--weather", f"{work / 'weather'}"],
        }
        environment = os.environ | {"MALICE_MODELS": f"{work / 'aux_models'}"}
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for turn in range(given.repeats):
            for name, options in commands.items():
                runs[name].append(measure(name, [sys.executable, "-m", "malice_core.embed", *options], environment))
                last = runs[name][-1]
                print(f"{turn + 1}/{given.repeats} {name}: {last['s']:.1f} s, {last['peak_mb']:.0f} MB", flush=True)
    except (BenchmarkError, MaliceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (work / "aux_cost.json").write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1) + "\n")
    middle = {
        name: {key: statistics.median(run[key] for run in done) for key in done[0]} for name, done in runs.items()
    }
    print(f"\n{machine()['cpu']}, {given.size} x {given.size} pixels, {given.dates} dates of each sensor")
    for name, row in middle.items():
        time, work = (
            statistics.median(run[key] / plain[key] for run, plain in zip(runs[name], runs["plain"], strict=True))
            for key in ("s", "cpu_s")
        )
        print(
            f"{name}: {row['s']:.1f} s, {row['cpu_s']:.1f} s of processor, {row['peak_mb']:.0f} MB; "
            f"{time:.3f} x plain, {work:.3f} x its processor time"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
