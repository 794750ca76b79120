"""What workers of dask compute comes into every format, from images on S3 too; and which of it a death costs."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio

pytest.importorskip("distributed")
pytest.importorskip("cryptography")

from helpers_cluster import Cluster, cluster, served, start, until
from helpers_embed import embedded, free_names, run, write_series

from malice_core.images.opening import _gdal_name, is_remote

#: Notes each block that a worker begins, with its process, and goes on when a file is not there.
NOTING = """
import os
import time
from malice_core import worker


def noting(compute):
    def noted(desk, index, check):
        with open({path!r}, "a") as file:
            file.write(f"{{os.getpid()}} {{index}}\\n")
        while os.path.exists({held!r}):
            time.sleep(0.05)
        compute(desk, index, check)

    return noted


# Dask runs this twice.
if worker.Desk.compute.__name__ != "noted":
    worker.Desk.compute = noting(worker.Desk.compute)
"""


@pytest.fixture
def job(tiny: str, tmp_path: Path) -> list[object]:
    """A job of 25 blocks."""
    images = write_series(tmp_path / "images", (80, 80), 3)
    return ["--s2", images, "--model", tiny, "--block", 16, "--queries", "0,1"]


@pytest.fixture(scope="module")
def remote(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), MALICE_MODELS="/nowhere") as one:
        one.add("--no-nanny", "--memory-limit", "2GB")
        yield one


@pytest.mark.parametrize("kind", ["cog", "vrt", "zarr"])
def test_every_format_has_the_numbers_of_a_local_run(
    job: list[object], remote: Cluster, tmp_path: Path, kind: str
) -> None:
    if kind == "zarr":
        zarr = pytest.importorskip("zarr")
    reference = embedded(tmp_path / "whole.tif", *job)
    suffix = "tif" if kind == "cog" else kind
    outputs = [tmp_path / f"{name}.{suffix}" for name in ("here", "there")]
    for output, more in zip(outputs, ((), ("--dask", remote.file)), strict=True):
        run(*job, "--format", kind, "--output", output, *more)
        found: np.ndarray[Any, Any]
        if kind == "zarr":
            found = np.asarray(zarr.open_array(output / "embedding", mode="r")[...])
        else:
            with rasterio.open(output) as file:
                found = file.read()
        np.testing.assert_array_equal(found.reshape(reference.shape), reference, err_msg=f"{output}")
    assert not list(tmp_path.glob("*.malice")), "nothing is left of scratch"


def test_images_may_lie_on_s3(job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of this machine that answers as a public bucket does, to this process and to a worker."""
    reference = embedded(tmp_path / "whole.tif", *job)
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    with served(tmp_path) as address:
        monkeypatch.setenv("AWS_S3_ENDPOINT", address.removeprefix("http://"))
        for name, value in (("AWS_HTTPS", "NO"), ("AWS_VIRTUAL_HOSTING", "FALSE"), ("AWS_NO_SIGN_REQUEST", "YES")):
            monkeypatch.setenv(name, value)
        paths = [f"s3://images/{name}" for name in names]
        for number, more in enumerate(((), ("--dask", "local:1"))):
            found = embedded(tmp_path / f"{number}.tif", "--s2", *paths, *job[2:], *more)
            np.testing.assert_array_equal(found, reference)


def test_names_on_servers_are_gdals() -> None:
    assert _gdal_name("s3://bucket/a/b.tif") == "/vsis3/bucket/a/b.tif"
    assert _gdal_name("S3://bucket/b.tif") == "/vsis3/bucket/b.tif"
    assert _gdal_name("https://host/b.tif?key=1") == "/vsicurl/https://host/b.tif?key=1"
    assert all(map(is_remote, ("s3://bucket/b.tif", "/vsis3/bucket/b.tif", "https://host/b.tif")))
    for path in ("/data/b.tif", "C:/data/b.tif", "s3/b.tif"):
        assert _gdal_name(path) == path
        assert not is_remote(path)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_only_the_blocks_that_a_killed_worker_held_are_begun_again(job: list[object], tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    noted, held, preload = (tmp_path / "cluster" / name for name in ("begun", "held", "noting.py"))
    preload.write_text(NOTING.format(path=f"{noted}", held=f"{held}"))
    held.touch()

    def begun() -> list[tuple[int, int]]:
        lines = noted.read_text().splitlines() if noted.exists() else []
        return [(int(process), int(index)) for process, index in map(str.split, lines)]

    output = tmp_path / "e.tif"
    with cluster(tmp_path / "cluster") as one:
        for _ in range(2):
            one.add("--no-nanny", "--preload", preload)
        process = start(*job, "--output", output, "--dask", one.file)
        try:
            until(lambda: len({worker for worker, _ in begun()}) == 2, "both workers at work")
            killed = begun()[-1][0]
            psutil.Process(killed).send_signal(signal.SIGKILL)
            held.unlink()
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    with rasterio.open(output) as file:
        np.testing.assert_array_equal(file.read(), embedded(tmp_path / "whole.tif", *job))
    times = Counter(index for _, index in begun())
    assert set(times) == set(range(25))
    again = {index for index, count in times.items() if count > 1}
    assert again, "it held one when it was killed"
    assert again <= {index for worker, index in begun() if worker == killed}
    assert len(again) <= 2, "one that it computed, and one that it read"
    assert all(times[index] == 2 for index in again)
    assert free_names(tmp_path) == ["cluster", "e.tif", "images", "whole.tif"]
