"""Small labelled scenes, polygons and PASTIS-R folders; importing this needs torch."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import helpers_vectors
import numpy as np
import pytest
from helpers_pretrain import alone
from helpers_stack import LEFT, TOP, write, write_s1

from malice_core import cli, finetune
from malice_core.training import runfolder
from malice_core.training.composing import compose_for
from malice_core.training.finetuning.settings import COMMAND, Tuning

HEIGHT, WIDTH, DATES = 40, 56, 3
#: A run of some seconds.
QUICK = (
    "model=tiny",
    "data.block=8",
    "data.guard=1",
    "train.batch_pixels=128",
    "train.trainer.max_epochs=3",
    "train.trainer.accelerator=cpu",
    "train.crop_size=16",
    "train.max_len=2",
    "train.threads=1",
)


def classes() -> np.ndarray:
    """(H, W) three classes in fields of 8 x 8 pixels."""
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    found: np.ndarray = (1 + (rows // 8 + cols // 8) % 3).astype(np.uint8)
    return found


def write_scene(folder: Path) -> Path:
    """Images in which the classes differ, and ``labels.tif`` of two thirds of the pixels."""
    rng = np.random.default_rng(0)
    kinds = classes()
    level = np.array([500.0, 1800, 3600])[kinds - 1]
    for i in range(DATES):
        day = date(2023, 3, 1) + timedelta(days=90 * i)
        values = np.stack([level * (0.6 + 0.1 * b) + rng.normal(0, 40, kinds.shape) for b in range(10)])
        write(folder / "S2" / f"S2_{day:%Y%m%d}.tif", values.clip(1, 9000).astype(np.uint16))
        speckle = rng.gamma(20, 1 / 20, (2, *kinds.shape))
        power = np.stack([0.03 * kinds, 0.01 * kinds]) * speckle
        write_s1(folder / "S1" / f"S1_{day:%Y%m%d}.tif", power.astype(np.float32))
    labels = np.where(rng.random(kinds.shape) < 0.67, kinds, 0).astype(np.uint8)
    write(folder / "labels.tif", labels[None], names=None)
    return folder


def tune(folder: Path, *given: str) -> int:
    """The command line in this process."""
    return cli.run_command(finetune.parser(), [*QUICK, f"hydra.run.dir={folder}", *given])


@contextmanager
def in_process(store: Path) -> Iterator[None]:
    """Command lines in this process, as if each had one of its own; models are those of ``store``."""
    with pytest.MonkeyPatch.context() as patch, alone():
        patch.setenv(runfolder.FOLDER, "")
        patch.setenv("MALICE_MODELS", f"{store}")
        yield


def settings(*given: str) -> Tuning:
    """Checked settings."""
    return compose_for(COMMAND, [*QUICK, *given]).settings


def box(row: int, col: int, height: int, width: int) -> list[list[tuple[float, float]]]:
    """A polygon along pixel edges: its outer ring."""
    left, top = LEFT + 10 * col, TOP - 10 * row
    right, bottom = left + 10 * width, top - 10 * height
    return [[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]]


def write_geojson(path: Path, polygons: Sequence[Any], values: Sequence[Any], crs: str | None = "EPSG:32631") -> Path:
    """A FeatureCollection with the attributes ``crop``."""
    features = [
        {"type": "Feature", "properties": {"crop": value}, "geometry": {"type": "Polygon", "coordinates": rings}}
        for rings, value in zip(polygons, values, strict=True)
    ]
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs is not None:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(content))
    return path


def write_geopackage(
    path: Path, polygons: Sequence[Any], values: Sequence[Any], layers: Sequence[str] = ("a",)
) -> Path:
    """A GeoPackage in EPSG:32631 with the attributes ``crop``; geometries in turn with height, envelope, big-endian."""
    with closing(sqlite3.connect(path)) as base, base:
        helpers_vectors.describe(base)
        for layer in layers:
            helpers_vectors.add(base, layer, "crop")
            for number, (rings, value) in enumerate(zip(polygons, values, strict=True)):
                blob = _blob(rings, number)
                base.execute(f'INSERT INTO "{layer}" (geom, crop) VALUES (?, ?)', (blob, value))
    return path


def _blob(rings: Any, number: int) -> bytes:
    order, height, several = "<>"[number % 2], number % 3 == 1, number % 3 == 2
    size = 3 if height else 2
    byte = struct.pack("B", order == "<")
    body = byte + struct.pack(f"{order}II", 1003 if height else 3, len(rings))
    for ring in rings:
        body += struct.pack(f"{order}I", len(ring))
        for x, y in ring:
            body += struct.pack(f"{order}{size}d", x, y, *([7.0] if height else []))
    if several:
        body = byte + struct.pack(f"{order}II", 6, 1) + body
    envelope = struct.pack("<4d", 0, 0, 0, 0) if number % 2 else b""
    return b"GP\0" + struct.pack("<Bi", 1 | (2 if envelope else 0), 32631) + envelope + body


def write_pastis(folder: Path, folds: Sequence[int] = (1, 2, 3, 4, 5), side: int = 16) -> Path:
    """Patches 100, 101 … in PASTIS-R's layout, of one fold each; dates are stored out of order, once as text."""
    rng = np.random.default_rng(5)
    features = []
    for name in ("DATA_S2", "DATA_S1A", "ANNOTATIONS"):
        (folder / name).mkdir(parents=True)
    for number, fold in enumerate(folds):
        patch = 100 + number
        target = rng.choice(np.array([0, 1, 2, 19], np.uint8), (side // 4, side // 4)).repeat(4, 0).repeat(4, 1)
        target[:4, :12:4], target[:4, 4:8], target[:4, 8:12] = 0, 1, 2
        s2 = rng.integers(1, 4000, (4, 10, side, side)).astype(np.int16)
        s2[1, :, :2] = 0
        s2[2, :, 2:4] = -10000
        decibels = rng.normal(-12, 3, (3, 2, side, side)).astype(np.float32)
        decibels[0, :, 5] = np.nan
        s1 = np.concatenate([decibels, decibels[:, :1] - decibels[:, 1:]], axis=1)
        np.save(folder / "DATA_S2" / f"S2_{patch}.npy", s2)
        np.save(folder / "DATA_S1A" / f"S1A_{patch}.npy", s1)
        np.save(folder / "ANNOTATIONS" / f"TARGET_{patch}.npy", np.stack([target, target + 50, target]))
        optical: Any = {"3": 20190401, "0": 20180924, "2": 20190101, "1": 20181103}
        properties = {
            "ID_PATCH": patch,
            "Fold": fold,
            "dates-S2": json.dumps(optical) if number % 2 else optical,
            "dates-S1A": {"0": 20181001, "1": 20181013, "2": 20190106},
        }
        features.append({"type": "Feature", "geometry": None, "properties": properties})
    (folder / "metadata.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features[::-1]}))
    return folder
