"""The same work for many rasters by several threads."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio
import rasterio.env
from affine import Affine
from helpers_cluster import served
from rasterio.errors import NotGeoreferencedWarning

from malice_core import processors
from malice_core.bands import SENSORS
from malice_core.blocks import environment
from malice_core.images import opening, sources, units
from malice_core.images.opening import open_raster
from malice_core.images.sources import Findings, find
from malice_core.images.together import each
from malice_core.images.units import Samples


def test_results_come_in_order_whoever_is_first() -> None:
    second = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second.wait(20), "the second thing is not worked on beside the first"
        if number == 1:
            second.set()
        return 10 * number

    assert list(each(work, range(5), 2)) == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_failure_in_order_is_told_and_the_rest_is_left(threads: int) -> None:
    seen: list[int] = []
    later = threading.Event()

    def work(number: int) -> int:
        seen.append(number)
        if number == 2:
            later.set()
            raise ValueError("the later one")
        if number == 1:
            assert threads == 1 or later.wait(20)
            raise ValueError("the first one")
        if number:
            time.sleep(0.01)
        return number

    results = each(work, range(1000), threads)
    assert next(results) == 0
    with pytest.raises(ValueError, match="the first one"):
        list(results)
    assert len(seen) < 1000


@pytest.mark.parametrize("main", [True, False])
def test_threads_have_the_settings_of_who_asks(main: bool) -> None:
    """GDAL's are those of a thread, but in the main thread."""
    found: list[str] = []
    together = threading.Barrier(2)

    def work(_: int) -> str:
        together.wait(20)
        return str(rasterio.env.getenv()["MALICE_TESTED"])

    def ask() -> None:
        with rasterio.Env(MALICE_TESTED="told"):
            found.extend(each(work, range(2), 2))

    if main:
        ask()
    else:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert found == ["told", "told"]


def test_rasters_are_opened_by_several_threads_without_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is ready first does not bring back warnings for the others, and in the end they are as before."""
    path = tmp_path / "plain.tif"
    with rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8", transform=Affine.scale(2)):
        pass
    inside, first_out = threading.Barrier(2), threading.Event()
    opened = rasterio.open

    def slow(*given: object, **options: object) -> object:
        inside.wait(20)
        if threading.current_thread().name == "late":
            assert first_out.wait(20)
        warnings.warn("no georeference", NotGeoreferencedWarning, stacklevel=1)
        return opened(*given, **options)

    def go(late: bool) -> None:
        threading.current_thread().name = "late" if late else "early"
        try:
            open_raster(str(path)).close()
        finally:
            if not late:
                first_out.set()

    monkeypatch.setattr(opening.rasterio, "open", slow)
    with warnings.catch_warnings(), ThreadPoolExecutor(2) as pool:
        warnings.simplefilter("error")
        before = list(warnings.filters)
        for one in [pool.submit(go, late) for late in (False, True)]:
            one.result()
        assert list(warnings.filters) == before


def test_keys_of_servers_are_settings_too() -> None:
    """An environment refuses them among its options."""

    def work(_: int) -> str:
        return str(rasterio.env.getenv()["AWS_SECRET_ACCESS_KEY"])

    with rasterio.Env():
        rasterio.env.setenv(AWS_ACCESS_KEY_ID="who", AWS_SECRET_ACCESS_KEY="told")  # pragma: allowlist secret
        assert list(each(work, range(2), 2)) == ["told", "told"]


def images(folder: Path, count: int) -> Path:
    """Small ones of Sentinel-2, a day each."""
    sensor, random = SENSORS["s2"], np.random.default_rng(5)
    for day in range(1, count + 1):
        with rasterio.open(
            folder / f"S2_2020010{day}.tif",
            "w",
            driver="GTiff",
            width=40,
            height=30,
            count=len(sensor.bands),
            dtype="int16",
            crs="EPSG:32631",
            transform=Affine(10, 0, 5e5, 0, -10, 5e6),
        ) as file:
            file.descriptions = sensor.bands
            file.write(random.integers(1, 5000, (len(sensor.bands), 30, 40)).astype("int16"))
    return folder


def test_samples_of_many_images_are_those_of_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = find([images(tmp_path, 9)], SENSORS["s2"], Findings())
    found = []
    for threads in (1, 4):
        monkeypatch.setattr(processors, "count", lambda threads=threads: threads)
        found.append(Samples().found(given))
    assert [source for source, _ in found[0]] == [source for source, _ in found[1]]
    assert len(found[0]) == 9
    for (_, one), (_, other) in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_images_on_a_server_are_waited_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight at once, opened and looked at, with one processor too."""
    monkeypatch.setattr(processors, "count", lambda: 1)
    with served(images(tmp_path, 8)) as address, environment():
        names = [f"{address}/{path.name}" for path in sorted(tmp_path.iterdir())]
        with meeting(monkeypatch, sources, "_look"):
            found = find(names, SENSORS["s2"], Findings())
        with meeting(monkeypatch, units, "_sample"):
            assert len(Samples().found(found)) == 8


@contextmanager
def meeting(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> Iterator[None]:
    """Inside, a function is only entered by eight threads at once."""
    barrier, real = threading.Barrier(8), getattr(module, name)

    def together(*given: object) -> object:
        barrier.wait(20)
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, together)
        yield
