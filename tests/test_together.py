"""The same work for many rasters by several threads."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.env
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from malice_core.images import opening
from malice_core.images.opening import open_raster
from malice_core.images.together import each


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


def test_samples_of_many_images_are_those_of_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from malice_core import processors
    from malice_core.bands import SENSORS
    from malice_core.images.sources import Findings, find
    from malice_core.images.units import Samples

    sensor = SENSORS["s2"]
    random = np.random.default_rng(5)
    for day in range(1, 10):
        with rasterio.open(
            tmp_path / f"S2_2020010{day}.tif",
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
    sources = find([tmp_path], sensor, Findings())
    found = []
    for threads in (1, 4):
        monkeypatch.setattr(processors, "count", lambda threads=threads: threads)
        found.append(Samples().found(sources))
    assert [source for source, _ in found[0]] == [source for source, _ in found[1]]
    assert len(found[0]) == 9
    for (_, one), (_, other) in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
