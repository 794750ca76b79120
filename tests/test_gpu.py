"""The engine's way on a GPU. Where there is none, onnxruntime's processor stands in for the card: the same bindings,
graphs and plan, with the memory of the card in main memory.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import rasterio
from helpers_aux import around
from helpers_embed import Array, embedded, run
from helpers_gpu import GB, stand_in
from helpers_models import write_random_model

from malice_core import gpu, memory, runtime, simulate
from malice_core.classes import ClassCodes
from malice_core.encoder import CHUNK
from malice_core.errors import DeviceError, InputError, MaliceError
from malice_core.resident import ResidentEncoder

REAL = runtime._cuda_problem() is None


@pytest.fixture(params=["stand-in", "card"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "card":
        if not REAL:
            pytest.skip(f"no CUDA device: {runtime._cuda_problem()}")
    else:
        stand_in(monkeypatch)
    return "cuda"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu") / "scene"
    simulate.write(simulate.Spec(height=64, width=72, s2_dates=5, s1_dates=4, seed=21), folder)
    return folder


@pytest.fixture
def models(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_random_model(tmp_path / "models", "plain")
    write_random_model(tmp_path / "models", "aux", auxiliary=True)
    monkeypatch.setenv("MALICE_MODELS", str(tmp_path / "models"))
    return tmp_path


def largest(a: Array, b: Array) -> float:
    assert a.shape == b.shape
    assert (np.isnan(a) == np.isnan(b)).all()
    return float(np.nanmax(np.abs(a - b)))


@pytest.mark.parametrize(
    "options",
    [
        ("--block", 32),
        ("--edge", "published"),
        ("--nodata", "zero", "--queries", "7,2"),
        ("--scl", "SCL", "--mask-clouds", "--max-dates", 3),
    ],
    ids=["blocks", "published", "queries", "clouds"],
)
def test_it_gives_the_processors_numbers(
    device: str, scene: Path, models: Path, options: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--s2", scene / "S2", "--s1", scene / "S1", "--model", "plain"]
    given += [scene / "SCL" if option == "SCL" else option for option in options]
    got = embedded(models / "gpu.tif", *given, "--device", device)
    wanted = embedded(models / "cpu.tif", *given, "--device", "cpu", "--runtime", "onnxruntime")
    assert largest(got, wanted) <= 2e-5
    if "--block" in options:
        assert largest(embedded(models / "whole.tif", *given[:-2], "--device", device), got) <= 1e-5


@pytest.mark.parametrize("model", ["plain", "aux"])
def test_float16_differs_by_little(device: str, scene: Path, models: Path, model: str) -> None:
    given: list[object] = ["--s2", scene / "S2", "--model", model, "--block", 32]
    given += around(scene, "s2") if model == "aux" else []
    wanted = embedded(models / "cpu.tif", *given, "--device", "cpu")
    got = embedded(models / "gpu.tif", *given, "--device", device, "--precision", "float16")
    assert 1e-5 < largest(got, wanted) < 0.02
    cosine = (got * wanted).sum(axis=0) / np.linalg.norm(got, axis=0) / np.linalg.norm(wanted, axis=0)
    assert cosine.min() > 0.9999
    with rasterio.open(models / "gpu.tif") as file:
        assert file.tags()["MALICE_PRECISION"] == "onnxruntime float16"


def test_float16_needs_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_cuda_problem", lambda: "there is none")
    for device, name, why in (("auto", "auto", ": there is none"), ("cpu", "auto", ""), ("auto", "openvino", "")):
        wrong = f"--precision float16 is computed on a GPU only, by --device cuda{why}; use float32"
        with pytest.raises(DeviceError) as seen:
            runtime.choose(name, device, "float16")
        assert str(seen.value) == wrong
    monkeypatch.setattr(runtime, "_cuda_problem", lambda: None)
    assert runtime.choose("auto", "auto", "float16").device == "cuda"


def test_the_card_computes_one_call_while_others_are_taken_up(
    device: str, scene: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a call wants of its memory is planned for once."""
    inside, most, threads = 0, 0, set()

    class Watched(onnxruntime.InferenceSession):  # type: ignore[misc]
        def run_with_iobinding(self, *given: object) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            threads.add(threading.current_thread().name)
            time.sleep(0.01)
            super().run_with_iobinding(*given)
            inside -= 1

    monkeypatch.setattr(onnxruntime, "InferenceSession", Watched)
    given = ("--s2", scene / "S2", "--model", "plain", "--block", 16, "--threads", 3)
    embedded(models / "e.tif", *given, "--device", device)
    assert most == 1
    assert len(threads) == runtime.CUDA_CALLS == 3


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_it_knows_weather_and_terrain(device: str, scene: Path, models: Path, sensor: str) -> None:
    given = [f"--{sensor}", scene / sensor.upper(), *around(scene, sensor), "--model", "aux", "--block", 40]
    got = embedded(models / "gpu.tif", *given, "--device", device)
    assert largest(got, embedded(models / "cpu.tif", *given, "--device", "cpu")) <= 2e-5


def test_blocks_fit_into_the_memory_of_the_card(scene: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def planned(free: int, *options: object) -> tuple[int, list[str]]:
        stand_in(monkeypatch, free)
        given = ("--s2", scene / "S2", "--model", "plain", "--device", "cuda", "--output", models / "e.tif", *options)
        found = run(*given, dry_run=True)
        return found.plans[0]["block"][0], found.warnings

    large, small = planned(8 * GB)[0], planned(int(1.4 * GB))[0]
    assert small < large == 64
    assert any("of the GPU's memory" in line for line in planned(GB, "--block", "64")[1])
    with pytest.raises(InputError, match=r"^of the GPU's memory 0\.23 GB may be used: .*--max-dates, or --device cpu$"):
        planned(GB // 4)


def test_pixels_at_once_fit_too(store: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from malice_core import models as installed
    from malice_core.grid import BlockGrid, Window
    from malice_core.product import Layout

    card = installed.load("plain")
    backend = runtime.Backend("onnxruntime", "cuda", "float32", 2, 1)
    grid = BlockGrid(Window(0, 0, 512, 512), (256, 256), card.halo, card.stride, clip=False)
    layout = Layout.of(card, ["s2"], range(10), "float32")
    room, chunks = [3 * GB, 5 * GB, 16 * GB], []
    for size in room:
        cost = memory.budget(card, backend, grid, {"s2": 60}, layout, room=size)
        both = memory.budget(card, backend, grid, {"s2": 60, "s1": 60}, layout, room=size)
        assert cost.device <= size
        # Each sensor has graphs of its own; the maps they share are of 256 x 256 pixels and 60 dates.
        alone = cost.device - memory.CUDA_BYTES - 256 * 256 * 60 * 64 * 4
        assert both.chunk <= cost.chunk
        if both.chunk == cost.chunk:
            assert both.device - cost.device == alone
        chunks.append(cost.chunk)
    assert chunks == sorted(chunks)
    assert chunks[0] < chunks[-1] == memory.CHUNKS[0]


@pytest.mark.skipif(REAL, reason="this machine has a card")
def test_a_missing_driver_is_told() -> None:
    with pytest.raises(DeviceError, match=r"^CUDA: the driver's .*use --device cpu"):
        gpu.free_bytes()


@pytest.mark.skipif(not REAL, reason="no CUDA device")
def test_the_driver_tells_what_is_free() -> None:
    assert GB // 8 < gpu.free_bytes() < 1 << 42


def test_no_room_on_the_device_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("CUDA failure 2: out of memory")

    monkeypatch.setattr("onnxruntime.OrtValue.ortvalue_from_numpy", refuse)
    with pytest.raises(DeviceError, match=r"cpu has no room for 0\.40 GB of features: CUDA failure 2.*--block"):
        runtime.DeviceMemory.zeros(100_000_000, "cpu")


def test_a_failure_with_bound_memory_is_one_line(scene: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    see = ResidentEncoder.see

    def beyond(self: ResidentEncoder, *given: object) -> object:
        counts = see(self, *given)
        self._where += 1 << 40
        return counts

    monkeypatch.setattr(ResidentEncoder, "see", beyond)
    with pytest.raises(
        MaliceError, match=r"^onnxruntime failed: .*; out of memory\? try a smaller --block or --memory"
    ):
        embedded(models / "e.tif", "--s2", scene / "S2", "--model", "plain", "--device", "cuda")


def test_more_pixels_at_once_are_classified_in_pieces(
    scene: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes of a block come from a graph with a fixed number of pixels; a GPU gives more at once."""
    known = np.random.default_rng(0).normal(0, 1, (640, 4)).astype(np.float32)

    class Head:
        def run(self, feeds: dict[str, Array]) -> Array:
            assert feeds["embedding"].shape == (CHUNK, 640)
            return feeds["embedding"] @ known

    layout = SimpleNamespace(
        classifier=SimpleNamespace(features=640, nodata=255, classes=[SimpleNamespace(code=i + 1) for i in range(4)]),
        sensors=("s2",),
        probabilities=None,
    )
    values = np.random.default_rng(1).normal(0, 1, (640, 1000)).astype(np.float32)
    codes = ClassCodes(layout, Head(), 1100)  # type: ignore[arg-type]
    codes.put(0, 100, values, np.where(np.arange(1000) % 7, 3, 0).astype(np.uint16))
    wanted = np.where(np.arange(1000) % 7, (values.T @ known).argmax(axis=1) + 1, 255)
    np.testing.assert_array_equal(codes.arrays["codes"][0, 100:], wanted)
