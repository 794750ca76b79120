"""Simulated scenes beside real ones, as tables of Markdown: ``python benchmarks/simulated_vs_real.py [--scenes N]``.

Real: the quantiles the published networks are normalised with (``spec/stats.json``) and the Belgian site_a, both below
MALICE_TESTDATA. Simulated: N scenes of ``Spec.draw`` (seeds from 1), and the Flemish scene of the demonstration.
The tables of ``docs/simulator.md`` are its output.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from malice_core import bands
from malice_core.simulate import Series, Spec

CLEAR = (4, 5, 6, 7)
Floats = NDArray[np.float64]


@dataclass
class Cube:
    """Series of one place: days (T,), dn (T, 10, H, W), scl (T, H, W); radar days (R,), power (R, 2, H, W)."""

    days: NDArray[np.int64]
    dn: NDArray[np.uint16]
    scl: NDArray[np.uint8]
    radar_days: NDArray[np.int64]
    power: NDArray[np.float32]
    labels: NDArray[np.uint8] | None = None


def read(path: Path) -> NDArray[np.generic]:
    """All bands of a raster, (C, H, W)."""
    with rasterio.open(path) as source:
        return np.asarray(source.read())


def day_of(path: Path) -> int:
    """Days since 1970 of a file named ..._YYYYMMDD.tif."""
    text = path.stem.split("_")[1]
    return int(np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:]}").astype(int))


def site_a(folder: Path) -> Cube:
    """The real site: 64 x 64 pixels near Kortrijk, 118 Sentinel-2 and 159 Sentinel-1 dates (20 m, sigma0)."""
    s2, s1 = sorted((folder / "S2").glob("*.tif")), sorted((folder / "S1").glob("*.tif"))
    power = np.stack([read(path) for path in s1]).astype(np.float32)
    return Cube(
        np.array([day_of(path) for path in s2]),
        np.stack([read(path) for path in s2]).astype(np.uint16),
        np.stack([read(folder / "SCL" / path.name.replace("S2_", "SCL_"))[0] for path in s2]).astype(np.uint8),
        np.array([day_of(path) for path in s1]),
        power / np.float32(np.cos(np.radians(38))),  # sigma0 to gamma0, at a middling angle
    )


def simulated(spec: Spec) -> Cube:
    """A simulated series in memory."""
    series = Series(spec)
    images = [series.sentinel2(i) for i in range(len(series.s2))]

    def days(passes: list) -> NDArray[np.int64]:  # type: ignore[type-arg]
        return np.array([np.datetime64(taken.when.date()).astype(int) for taken in passes])

    return Cube(
        days(series.s2),
        np.stack([dn for dn, _ in images]),
        np.stack([scl for _, scl in images]),
        days(series.s1),
        np.stack([series.sentinel1(i) for i in range(len(series.s1))]),
        series.labels,
    )


def clear_of(cube: Cube) -> Floats:
    """(10, N) values of what the scene classes call clear."""
    inside = np.isin(cube.scl, CLEAR) & (cube.dn > 0).all(axis=1)
    return np.moveaxis(cube.dn, 1, 0)[:, inside].astype(np.float64)


def whole_of(cubes: list[Cube]) -> Floats:
    """(10, N) values of dates with less than 30 % cloud, clouds included, as published users choose them."""
    found = []
    for cube in cubes:
        kept = np.isin(cube.scl, bands.CLOUD_CLASSES).mean(axis=(1, 2)) < 0.3
        dn = np.moveaxis(cube.dn[kept], 1, 0)
        found.append(dn[:, (dn > 0).all(axis=0)])
    return np.concatenate(found, axis=1).astype(np.float64)


def profile(cube: Cube) -> dict[str, float]:
    """How NDVI moves over the year in a pixel, and how it goes on from date to date."""
    red, nir = cube.dn[:, 2].astype(np.float64), cube.dn[:, 6].astype(np.float64)
    ndvi = np.where(
        np.isin(cube.scl, CLEAR) & (cube.dn > 0).all(axis=1), (nir - red) / np.maximum(nir + red, 1), np.nan
    )
    with np.errstate(all="ignore"):
        seen = np.isfinite(ndvi).sum(axis=0) > 12
        low, high = np.nanquantile(ndvi[:, seen], (0.1, 0.9), axis=0)
    after, before, gap = ndvi[1:], ndvi[:-1], np.diff(cube.days)
    both = np.isfinite(after) & np.isfinite(before) & (gap <= 10)[:, None, None]
    one, two = before[both], after[both]
    return {
        "NDVI, median": float(np.nanmedian(ndvi)),
        "amplitude of a pixel (90 % - 10 %), median": float(np.median(high - low)),
        "amplitude, 10 % of pixels above": float(np.quantile(high - low, 0.9)),
        "spread between pixels of a date (std)": float(np.nanmedian(np.nanstd(ndvi.reshape(len(ndvi), -1), axis=1))),
        "correlation with the next clear date (<= 10 days)": float(np.corrcoef(one, two)[0, 1]),
        "change to the next clear date, std": float((two - one).std()),
    }


def halve(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., H, W) averaged over 2 x 2 pixels: the 20 m of the real site."""
    height, width = power.shape[-2] // 2 * 2, power.shape[-1] // 2 * 2
    even = power[..., :height, :width]
    return (even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]) / 4


def radar(power: NDArray[np.float32]) -> dict[str, float]:
    """Levels and texture of (R, 2, H, W) linear power."""
    power = power[np.isfinite(power).all(axis=(1, 2, 3))].astype(np.float64)
    log = np.log(power)
    ratio = log[:, 1] - log[:, 0]
    out = {}
    for name, values in (("VV, ln", log[:, 0]), ("VH, ln", log[:, 1]), ("VH/VV, ln", ratio)):
        low, middle, high = np.quantile(values, (0.02, 0.5, 0.98))
        out |= {f"{name}: 2 %": low, f"{name}: median": middle, f"{name}: 98 %": high}
    for i, name in enumerate(("VV", "VH")):
        scene = np.median(log[:, i].reshape(len(log), -1), axis=1)
        out[f"{name}: std of a pixel over the year, ln"] = float(np.median(log[:, i].std(axis=0)))
        out[f"{name}: std of the scene's median over the year, ln"] = float(scene.std())
    out["correlation of VV and VH, ln"] = float(np.corrcoef(log[:, 0].ravel(), log[:, 1].ravel())[0, 1])
    # Speckle: what changes between neighbours and not between dates; the ratio to a yearly mean removes the place.
    flat = power[:, 0] / power[:, 0].mean(axis=0)
    windows = [flat[:, r : r + 4, c : c + 4].reshape(len(flat), -1) for r in range(0, flat.shape[1] - 3, 4)
               for c in range(0, flat.shape[2] - 3, 4)]  # fmt: skip
    looks = [window.mean(axis=1) ** 2 / window.var(axis=1, ddof=1) for window in windows]
    out["equivalent looks in 4 x 4 windows, median"] = float(np.median(looks))
    rest = flat - np.stack([one.mean() for one in flat])[:, None, None]
    out["correlation of neighbours' speckle"] = float((rest[:, :, 1:] * rest[:, :, :-1]).mean() / (rest**2).mean())
    return out


def table(head: list[str], rows: list[list[object]]) -> None:
    """Prints a table of Markdown."""
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row) + " |")
    print()


def mean_of(parts: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each entry."""
    return {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}


def main() -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--first", type=int, default=1, help="first seed")
    given = parser.parse_args()
    data = Path(os.environ.get("MALICE_TESTDATA", ""))
    if not (data / "data" / "site_a").is_dir():
        print("error: set MALICE_TESTDATA to the folder with data/site_a and spec/stats.json", file=sys.stderr)
        return 2
    stats = json.loads((data / "spec" / "stats.json").read_text(encoding="utf-8"))["malice"]
    real = site_a(data / "data" / "site_a")
    start = time.perf_counter()
    drawn = [simulated(Spec.draw(seed)) for seed in range(given.first, given.first + given.scenes)]
    spent = (time.perf_counter() - start) / given.scenes
    home = simulated(replace(Spec(), height=128, width=128, s2_dates=100, s1_dates=60))

    print(f"{given.scenes} drawn scenes of 128 x 128, {spent:.1f} s each\n")
    everything, clear = whole_of(drawn), np.concatenate([clear_of(cube) for cube in drawn], axis=1)
    columns = [np.array(stats["s2"][key]) for key in ("qmin", "med", "qmax")]
    columns += list(np.quantile(everything, (0.02, 0.5, 0.98), axis=1))
    columns += list(np.quantile(clear_of(real), (0.02, 0.5, 0.98), axis=1))
    columns += list(np.quantile(clear_of(home), (0.02, 0.5, 0.98), axis=1))
    columns.append(100 * ((clear >= columns[0][:, None]) & (clear <= columns[2][:, None])).mean(axis=1))
    head = ["band", "published qmin", "med", "qmax", "drawn 2 %", "50 %", "98 %"]
    head += [
        "site_a clear 2 %",
        "50 %",
        "98 %",
        "Flanders clear 2 %",
        "50 %",
        "98 %",
        "drawn clear inside qmin-qmax, %",
    ]
    table(head, [[name, *(round(float(c[i])) for c in columns)] for i, name in enumerate(bands.S2.bands)])

    print("Correlation of bands, clear pixels: site_a / drawn / Flanders\n")
    real_r, drawn_r, home_r = (np.corrcoef(part) for part in (clear_of(real), clear, clear_of(home)))
    names = bands.S2.bands
    cells = [[f"{real_r[i, j]:.2f} / {drawn_r[i, j]:.2f} / {home_r[i, j]:.2f}" for j in range(i)] for i in range(10)]
    table(["", *names[:9]], [[names[i], *cells[i], *[""] * (9 - i)] for i in range(1, 10)])
    lower = np.tril_indices(10, -1)
    print(f"mean absolute difference: drawn {np.abs(real_r - drawn_r)[lower].mean():.2f}, "
          f"Flanders {np.abs(real_r - home_r)[lower].mean():.2f}\n")  # fmt: skip

    parts = profile(real), mean_of([profile(cube) for cube in drawn]), profile(home)
    table(["", "site_a", "drawn", "Flanders"], [[key, *(part[key] for part in parts)] for key in parts[0]])

    classes = [np.bincount(cube.scl.ravel(), minlength=12) for cube in (real, home)]
    classes.insert(1, sum(np.bincount(cube.scl.ravel(), minlength=12) for cube in drawn))  # type: ignore[call-overload]
    table(["scene class, %", "site_a", "drawn", "Flanders"],
          [[i, *(float(100 * part[i] / part.sum()) for part in classes)] for i in range(12)])  # fmt: skip

    radars = [radar(real.power), mean_of([radar(halve(cube.power)) for cube in drawn]), radar(halve(home.power)),
              mean_of([radar(cube.power) for cube in drawn])]  # fmt: skip
    s1 = stats["s1"]
    published = {f"{name}: {key}": s1[source][i] for i, name in enumerate(("VH, ln", "VV, ln", "VH/VV, ln"))
                 for key, source in (("2 %", "qmin"), ("median", "med"), ("98 %", "qmax"))}  # fmt: skip
    head = ["", "published (10 m)", "drawn (10 m)", "site_a (20 m)", "drawn (20 m)", "Flanders (20 m)"]
    order = [radars[i] for i in (3, 0, 1, 2)]
    table(head, [[key, published.get(key, ""), *(part[key] for part in order)] for key in radars[0]])
    return 0


if __name__ == "__main__":
    sys.exit(main())
