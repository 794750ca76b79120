"""The engine's way on a GPU. Where there is none, onnxruntime's processor stands in for the card: the same bindings,
graphs and plan, with the memory of the card in main memory.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import rasterio
from helpers_aux import around
from helpers_embed import Array, embedded, run
from helpers_gpu import GB, stand_in
from helpers_models import published as published_file
from helpers_models import write_random_model
from onnx import TensorProto, helper

from malice_core import memory, runtime, simulate
from malice_core.encoder import CHUNK
from malice_core.errors import DeviceError, InputError, MaliceError
from malice_core.features import Normaliser
from malice_core.gpu import driver
from malice_core.gpu.encoding import ResidentEncoder
from malice_core.gpu.memory import DeviceMemory, Workspace
from malice_core.graphs import MISSING, date_encoding
from malice_core.product import BlockCodes
from malice_core.store import modelwriter, published

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
def test_float16_differs_by_little(
    device: str, scene: Path, models: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = ["--s2", scene / "S2", "--model", model, "--block", 32]
    given += around(scene, "s2") if model == "aux" else []
    wanted = embedded(models / "cpu.tif", *given, "--device", "cpu")
    opened = []

    class Watched(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, graph: bytes, *more: object, **named: object) -> None:
            opened.append(onnx.load_model_from_string(graph).graph)
            super().__init__(graph, *more, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Watched)
    got = embedded(models / "gpu.tif", *given, "--device", device, "--precision", "float16")
    assert 1e-5 < largest(got, wanted) < 0.02
    cosine = (got * wanted).sum(axis=0) / np.linalg.norm(got, axis=0) / np.linalg.norm(wanted, axis=0)
    assert cosine.min() > 0.9999
    with rasterio.open(models / "gpu.tif") as file:
        assert file.tags()["MALICE_PRECISION"] == "onnxruntime float16"
    seen = {}
    for graph in opened:
        (given_first, *_) = [one.name for one in graph.input]
        seen[given_first] = any(one.data_type == TensorProto.FLOAT16 for one in graph.initializer)
        # Rounding the maps of all dates at each call would take longer than the call.
        assert {node.op_type for node in graph.node if "maps" in node.input} <= {"Gather"}
    rounded = {"images": True, "encoding": True}
    assert seen == rounded | ({"terrain": True, "weather": False} if model == "aux" else {})


def test_numbers_beyond_float16_are_told(scene: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    read = DeviceMemory.read

    def beyond(self: DeviceMemory, into: Array) -> None:
        read(self, into)
        into[-1, 0, 0] = np.inf

    monkeypatch.setattr(DeviceMemory, "read", beyond)
    with pytest.raises(MaliceError, match=r"^--precision float16: numbers .* larger .*: use --precision float32$"):
        embedded(
            models / "e.tif", "--s2", scene / "S2", "--model", "plain", "--device", "cuda", "--precision", "float16"
        )


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_numbers_inside_the_published_networks_fit_into_float16(sensor: str, testdata: Path, tmp_path: Path) -> None:
    """Measured where they are computed in float32: a processor's float16 leaves most of them in float32."""
    weights = {sensor: published.read(published_file(sensor)).weights}
    card = modelwriter.write(tmp_path, "x", weights, title="", licence="", citation="", provenance={})
    normalise = Normaliser(sensor, card.modalities[sensor])
    files = sorted((testdata / "data" / "site_a" / ("S2" if sensor == "s2" else "S1_10m")).glob("*.tif"))[::20]
    images, observed = [], []
    for name in files:
        with rasterio.open(name) as file:
            values = file.read().astype(np.float32)
        there = np.isfinite(values).all(axis=0) & (values != 0).any(axis=0)
        images.append(normalise(np.nan_to_num(values), there))
        observed.append(there.reshape(-1)[::7])
    features, inside = everything(card.graph_bytes(sensor, "spatial"), {"images": np.stack(images)})
    days = np.linspace(0, 365, len(files), dtype=np.float32)
    pixels = features.reshape(len(files), 64, -1)[:, :, ::7].transpose(2, 0, 1)
    given = {"features": pixels, "encoding": date_encoding(days), "valid": np.stack(observed, 1).astype(np.float32)}
    _, later = everything(card.graph_bytes(sensor, "temporal"), given)
    print(sensor, len(files), images[0].shape, inside, later)
    assert 1 < inside < 65504 / 100
    assert 1 < later < 65504 / 100


def everything(graph: bytes, feeds: dict[str, Array]) -> tuple[Array, float]:
    """What a graph returns, and the largest of all numbers in it but for the scores of missing dates."""
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(graph))
    (first,) = [one.name for one in model.graph.output]
    names = [one.name for one in model.graph.value_info if one.type.tensor_type.elem_type == TensorProto.FLOAT]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    found = onnxruntime.InferenceSession(model.SerializeToString()).run([first, *names], feeds)
    return found[0], max(float(np.abs(one[one > MISSING / 2]).max()) for one in found)


def test_float16_needs_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_cuda_problem", lambda: "there is none")
    for device, name, how in (
        ("auto", "auto", "--device cuda: there is none"),
        ("cpu", "auto", "--device cuda"),
        ("auto", "openvino", "--runtime onnxruntime --device cuda"),
    ):
        wrong = f"--precision float16 is computed on a GPU only, by {how}; use float32"
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


@pytest.mark.parametrize("model", ["plain", "aux"])
def test_copies_are_beside_the_graphs(
    device: str, scene: Path, models: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two graphs of a sensor never wait for main memory: nobody copies while it is his turn to compute."""
    real, done, made = driver.device(), list[str](), list[weakref.ref[object]]()
    locked, users = list[Array](), dict[int, set[str]]()

    class Watched:
        def zeros(self, size: int) -> driver.Allocation:
            found = real.zeros(size)
            made.append(weakref.ref(found))
            return found

        def locked(self, size: int) -> Array:
            found = real.locked(size)
            locked.append(found)
            users[found.ctypes.data] = set()
            return found

        def to_device(self, address: int, values: Array) -> None:
            self._watch("to device", values)
            real.to_device(address, values)

        def to_host(self, values: Array, address: int) -> None:
            self._watch("to host", values)
            real.to_host(values, address)

        def _watch(self, way: str, values: Array) -> None:
            if way == "to host" or values.ndim == 4:
                done.append(way)
            if values.ctypes.data in users:
                users[values.ctypes.data].add(threading.current_thread().name)
            # Whoever has the turn would wait for himself.
            assert runtime._card.acquire(timeout=20), way
            runtime._card.release()

    class Bound(onnxruntime.IOBinding):  # type: ignore[misc]
        def bind_cpu_input(self, *_: object) -> None:
            raise AssertionError("onnxruntime would copy it within the call")

        def synchronize_inputs(self) -> None:
            raise AssertionError("the copies of all threads would be waited for")

    watched = Watched()
    monkeypatch.setattr(driver, "device", lambda: watched)
    monkeypatch.setattr(onnxruntime.InferenceSession, "io_binding", lambda self: Bound(self))
    given: list[object] = ["--s2", scene / "S2", "--s1", scene / "S1", "--model", model, "--block", 32, "--threads", 3]
    given += around(scene) if model == "aux" else []
    embedded(models / "e.tif", *given, "--device", device)
    # Six blocks of 32 x 24 pixels, five dates and four, the terrain with MALICE Aux; and embeddings of 256 pixels.
    assert done.count("to device") >= 6 * (5 + 4)
    assert done.count("to host") == 6 * 2 * 3
    # Six threads, each with some things, which may have grown once: far fewer than there are calls.
    things = 3 * 3 + 3 * (4 if model == "aux" else 1)
    assert 4 <= len(locked) <= 2 * things
    assert {len(names) for names in users.values()} == {1}, "memory that no thread or two have"
    # Maps, and the days of both sensors, have none on this side.
    assert len(made) == len(locked) + 3
    assert not any(one() for one in made), "memory that was not freed"


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_it_knows_weather_and_terrain(device: str, scene: Path, models: Path, sensor: str) -> None:
    given = [f"--{sensor}", scene / sensor.upper(), *around(scene, sensor), "--model", "aux", "--block", 40]
    got = embedded(models / "gpu.tif", *given, "--device", device)
    assert largest(got, embedded(models / "cpu.tif", *given, "--device", "cpu")) <= 2e-5


def test_blocks_fit_into_the_memory_of_the_card(scene: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def planned(free: int, *options: object) -> tuple[int, list[str]]:
        stand_in(monkeypatch, free)
        given = ("--s2", scene / "S2", "--model", "plain", "--device", "cuda", "--output", models / "e.tif", *options)
        # Of main memory CUDA takes most of the default.
        found = run(*given, "--memory", "4GB", dry_run=True)
        return found.plans[0]["block"][0], found.warnings

    large, small = planned(8 * GB)[0], planned(int(1.4 * GB))[0]
    assert small < large == 64
    assert any("of the GPU's memory" in line for line in planned(GB, "--block", "64")[1])
    with pytest.raises(InputError, match=r"^of the GPU's memory 0\.23 GB may be used: .*--max-dates, or --device cpu$"):
        planned(GB // 4)
    with pytest.raises(InputError, match=r"--max-dates, or --device cpu --precision float32$"):
        planned(GB // 4, "--precision", "float16")


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
        # Beside the card there is as much for each of three threads, and no more of what they hold.
        three = memory.budget(card, replace(backend, streams=3), grid, {"s2": 60}, layout, room=size)
        assert three.device <= size
        assert three.chunk <= min(cost.chunk, 256 * 256 // 3)
        assert three.work["tokens"] == 3 * three.chunk * 4 * (2 * 640 + 2 + 60)
        # Each sensor has graphs of its own. They share maps of 256 x 256 pixels and 60 dates, and memory for an image
        # of 352 x 352 pixels and an embedding.
        alone = (
            cost.device - memory.CUDA_BYTES - 4 * (256 * 256 * 60 * 64 + 352 * 352 * 10 + cost.chunk * (640 + 2 + 60))
        )
        assert both.chunk <= cost.chunk
        if both.chunk == cost.chunk:
            assert both.device - cost.device == alone
        chunks.append(cost.chunk)
    assert chunks == sorted(chunks)
    assert chunks[0] < chunks[-1] == memory.CHUNKS[0]


def test_memory_of_a_thread_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    device = stand_in(monkeypatch)
    workspace, rng = Workspace(7), np.random.default_rng(5)
    for shape in ((2, 3), (1, 2), (40, 50), (3, 1), (40, 50)):
        values = rng.integers(0, 99, shape)
        there = workspace.put("x", values)
        assert there.dtype == values.dtype
        found = np.zeros_like(values)
        there.read(found)
        np.testing.assert_array_equal(found, values)
        room, here = workspace.room(shape)
        room.fill(values.astype(np.float32))
        room.read(here)
        np.testing.assert_array_equal(here, values)
        # Maps, and one of each: the smaller ones are gone.
        assert len(device.held) == 3
    assert not workspace.maps.part(5, (2,)).pointer % 4
    with pytest.raises(ValueError, match="12 bytes from byte 20 on in memory of 28"):
        workspace.maps.part(5, (3,))
    with pytest.raises(ValueError, match="or not contiguous"):
        workspace.maps.read(np.zeros(7, np.int32))
    others = list[int]()
    thread = threading.Thread(target=lambda: others.append(workspace.room((40, 50))[0].pointer))
    thread.start()
    thread.join()
    assert others != [workspace.room((40, 50))[0].pointer]


@pytest.mark.parametrize("what", ["zeros", "to_device", "to_host"])
def test_a_failure_of_the_driver_is_one_line(
    scene: Path, models: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = stand_in(monkeypatch)
    works, calls = getattr(device, what), list[object]()

    def failing(*given: object) -> object:
        calls.append(given)
        if len(calls) == 4:
            raise driver.DriverError.of("cuSomething", 700)
        return works(*given)

    monkeypatch.setattr(device, what, failing)
    with pytest.raises(DeviceError, match=r"^CUDA: the driver's cuSomething fails with code 700; use --device cpu"):
        embedded(models / "e.tif", "--s2", scene / "S2", "--model", "plain", "--device", "cuda", "--block", 32)
    assert not (models / "e.tif").exists()


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


def test_the_pixels_of_a_call_are_taken_up_in_pieces(
    device: str, scene: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs behind the embedding have a fixed number of pixels, and a processor's cache holds few."""
    called, put = set(), set()
    encode, take = ResidentEncoder._encode_pixels, BlockCodes.put

    def encoding(self: ResidentEncoder, start: int, stop: int) -> Array:
        called.add(stop - start)
        return encode(self, start, stop)

    def taking(self: BlockCodes, modality: int, start: int, values: Array, counts: Array) -> None:
        put.add(counts.size)
        take(self, modality, start, values, counts)

    monkeypatch.setattr(ResidentEncoder, "_encode_pixels", encoding)
    monkeypatch.setattr(BlockCodes, "put", taking)
    embedded(models / "e.tif", "--s2", scene / "S2", "--model", "plain", "--device", device)
    assert max(called) > CHUNK == max(put)
