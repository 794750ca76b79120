"""The benchmarks measure what they say: images, patches of the peers, arithmetic, and a whole small table."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnxruntime
import pytest
import rasterio
from helpers_embed import normalised
from helpers_models import random_weights
from onnx import TensorProto, helper

from malice_core import graphs, models
from malice_core.cropping import cropped
from malice_core.kernel import encoding

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(f"{ROOT / 'benchmarks'}")

import arithmetic  # noqa: E402
import measuring  # noqa: E402
import mirrored  # noqa: E402
import peers  # noqa: E402
import profile_run  # noqa: E402
import report  # noqa: E402
import speed  # noqa: E402


@pytest.fixture(scope="module")
def site(testdata: Path) -> Path:
    return testdata / "data" / "site_a"


@pytest.mark.parametrize("size", [64, 200, 512, 1100])
def test_a_mosaic_is_the_site_mirrored_out(site: Path, tmp_path: Path, size: int) -> None:
    files = mirrored.write(tmp_path / "scene", site, size, 3)
    dates = sorted(path.name for path in (site / "S2").glob("*.tif"))
    assert files[0].name == dates[0]
    assert files[-1].name == dates[-1]
    for path in files:
        with rasterio.open(site / "S2" / path.name) as source, rasterio.open(path) as made:
            index = np.arange(size) % 128
            index = np.where(index < 64, index, 127 - index)
            np.testing.assert_array_equal(made.read(), source.read()[:, index[:, None], index])
            assert (made.crs, made.transform, made.nodata) == (source.crs, source.transform, source.nodata)
            assert made.descriptions == source.descriptions
            assert made.profile["compress"] == "deflate"
            assert made.block_shapes == [(512, 512)] * 10
    # A tile is on disk once.
    assert sum(path.stat().st_size for path in files) < 3e6


def test_more_dates_than_there_are_is_an_error(site: Path) -> None:
    with pytest.raises(measuring.BenchmarkError, match=r"119 dates: .* has 118 images"):
        mirrored.evenly(site, 119)


@pytest.mark.parametrize("way", peers.WAYS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 288), (512, 512), (300, 1000)])
def test_the_patches_of_a_peer_cover_every_pixel_once(way: str, height: int, width: int) -> None:
    patch, margin = peers.WAYS[way].patch, peers.WAYS[way].margin
    seen = np.zeros((height, width), int)
    for read, keep in peers.windows(height, width, patch, margin):
        rows, cols = keep.toslices()
        seen[rows, cols] += 1
        assert (read.height, read.width) == (min(patch, height), min(patch, width))
        # Inside the images a margin is thrown away, at their edge there is none.
        for begin, end, first, last, length in (
            (read.row_off, read.row_off + read.height, rows.start, rows.stop, height),
            (read.col_off, read.col_off + read.width, cols.start, cols.stop, width),
        ):
            assert begin >= 0
            assert end <= length
            assert first - begin >= (margin if begin else 0)
            assert end - last >= (margin if end < length else 0)
    assert (seen == 1).all()


def test_a_peer_takes_the_largest_patch_that_fits() -> None:
    way = peers.WAYS["downstream"]
    assert way.largest(20, 1e12) == 288
    smaller = way.largest(118, 16e9)
    assert 96 <= smaller < 160
    assert way.largest(118, 8e9) < smaller
    with pytest.raises(measuring.BenchmarkError, match=r"0\.5 GB are too little for 118 dates"):
        way.largest(118, 5e8)


@pytest.mark.parametrize("way", peers.WAYS)
def test_a_peer_gives_what_the_graph_gives(site: Path, testdata: Path, tmp_path: Path, way: str) -> None:
    """On the kept part of a patch away from the edge, with reading and normalising done here by other code."""
    files = mirrored.write(tmp_path / "scene", site, 144, 2)
    patch, margin = 64, peers.WAYS[way].margin
    model = measuring.published(testdata)
    found = peers.run(peers.WAYS[way], files, model, tmp_path / "o.tif", patch)
    places = peers.windows(144, 144, patch, margin)
    assert found["patches"] == found["all"] == len(places)
    assert set(found["seconds"]) == {"read", "graph", "write"}
    assert 0 < found["later"] < sum(found["seconds"].values())
    read, keep = next(place for place in places if place[0].row_off and place[0].col_off)
    stats = json.loads((testdata / "spec" / "stats.json").read_text())["malice"]
    rows, cols = read.toslices()
    images = normalised(files, "s2", stats)[None, :, :, rows, cols]
    days = np.array([[(date - np.datetime64("2014-03-03")).astype(int) for date in dates_of(files)]], np.float32)
    feeds = {"sits": images, "tpe": days, "padd_mask": np.zeros((1, 2), bool)}
    whole = onnxruntime.InferenceSession(model).run(None, feeds)[0].reshape(640, patch, patch)
    down, right = keep.row_off - read.row_off, keep.col_off - read.col_off
    with rasterio.open(tmp_path / "o.tif") as file:
        assert file.dtypes == ("float32",) * 640
        kept = file.read(window=keep)
    np.testing.assert_allclose(kept, whole[:, down : down + keep.height, right : right + keep.width], atol=2e-5)


def dates_of(files: list[Path]) -> list[np.datetime64]:
    names = [path.stem.split("_")[1] for path in files]
    return [np.datetime64(f"{name[:4]}-{name[4:6]}-{name[6:]}") for name in names]


def test_patches_that_a_peer_leaves_out_are_added(site: Path, testdata: Path, tmp_path: Path) -> None:
    files = mirrored.write(tmp_path / "scene", site, 144, 2)
    found = peers.run(peers.WAYS["openeo"], files, measuring.published(testdata), tmp_path / "o.tif", 64, 5)
    assert (found["patches"], found["all"]) == (5, 9)
    with rasterio.open(tmp_path / "o.tif") as file:
        written = (file.read([1, 640]) != 0).all(axis=0)
    # The first and the last of them are the corners of the image.
    assert written[0, 0]
    assert written[-1, -1]
    assert 0.4 < written.mean() < 0.7
    contender = speed.Contender(["python", "peers.py"], "", 2)
    assert contender.whole(10.0, json.dumps(found | {"later": 3.0})) == 10 + 4 / 2 * 3
    assert contender.whole(10.0, json.dumps(found | {"all": 12, "later": 3.0})) == 10 + (6 - 3) * 3
    assert contender.whole(10.0, json.dumps(found | {"all": 5, "later": None})) == 10
    assert speed.Contender(["python", "-m", "malice_core.embed"], "").whole(10.0, "") == 10


def test_multiply_adds_of_single_operations() -> None:
    def count(op: str, x: tuple[int, ...], w: tuple[int, ...], y: int, **attributes: object) -> int:
        x_in, w_in, result = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
            for name, rank in (("x", len(x)), ("w", len(w)), ("y", y))
        )
        node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
        graph = helper.make_graph([node], "one", [x_in, w_in], [result])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        return arithmetic.multiply_adds(model.SerializeToString(), {"x": x, "w": w})

    # 6 x 7 places of a 3 x 3 kernel over 5 channels, for 4 results, of 2 images.
    assert count("Conv", (2, 5, 8, 9), (4, 5, 3, 3), 4) == 2 * 4 * 6 * 7 * 5 * 9
    # Strides of 2: 4 x 4 places; two groups: 2 channels each.
    assert count("Conv", (1, 4, 8, 8), (6, 2, 2, 2), 4, strides=[2, 2], group=2) == 6 * 16 * 2 * 4
    # Each of 5 x 8 x 9 numbers goes to 2 x 2 places of 3 channels.
    assert count("ConvTranspose", (1, 5, 8, 9), (5, 3, 2, 2), 4, strides=[2, 2]) == 5 * 8 * 9 * 3 * 4
    assert count("MatMul", (7, 3, 4, 6), (6, 5), 4) == 7 * 3 * 4 * 5 * 6
    assert count("MatMul", (2, 1, 4, 6), (3, 6, 5), 4) == 2 * 3 * 4 * 5 * 6
    with pytest.raises(measuring.BenchmarkError, match="Gemm is not counted"):
        count("Gemm", (2, 3), (3, 4), 2)


def test_multiply_adds_of_the_spatial_graph_by_hand() -> None:
    """U-Net of widths 64, 64, 64, 128: a 3x3 convolution at full size is 9·in·out a pixel, and so on down."""
    graph = graphs.spatial_graph(random_weights(10))
    weights = random_weights(10)
    by_hand = 0.0
    for name, array in weights.items():
        if array.ndim != 4:
            continue
        # Level of the numbers that a kernel's results are at: 0 at full size, 3 deepest.
        if ".down_blocks." in name:
            level = int(name.split(".down_blocks.")[1][0]) + 1
        elif ".up_blocks." in name:
            level = 2 - int(name.split(".up_blocks.")[1][0])
        else:
            level = 0
        # A transposed convolution's kernel meets each place of its input, a quarter of its output's.
        level += ".up.0." in name
        by_hand += array.size / 4**level
    assert arithmetic.multiply_adds(graph, {"images": (1, 10, 64, 48)}) == by_hand * 64 * 48
    assert arithmetic.multiply_adds(graph, {"images": (3, 10, 32, 32)}) == by_hand * 3 * 32 * 32


def test_multiply_adds_of_the_temporal_graph_by_hand() -> None:
    pixels, dates = 32, 7
    inputs = {"features": (pixels, dates, 64), "encoding": (dates, 64), "valid": (pixels, dates)}
    weights = random_weights(10)
    layers = 3
    hidden = next(a for n, a in weights.items() if n.endswith("layer_stack.0.conv_block.block.linear1.weight")).shape[0]
    # A layer: q, k, v and output of 64 x 64; scores and their use, T x 64 each; two matrices of the MLP.
    layer = 4 * 64 * 64 + 2 * dates * 64 + 2 * 64 * hidden
    # Projector: 20 rows times 64 channels, for the scores and for what they weigh.
    by_hand = pixels * dates * (layers * layer + 2 * 20 * 64)
    assert arithmetic.multiply_adds(graphs.temporal_graph(weights), inputs) == by_hand


def test_a_cropped_graph_takes_less() -> None:
    graph = graphs.spatial_graph(random_weights(10))
    inputs = {"images": (1, 10, 352, 352)}
    whole, cut = (arithmetic.multiply_adds(g, inputs) for g in (graph, cropped(graph, 48)))
    useful = arithmetic.multiply_adds(graph, {"images": (1, 10, 256, 256)})
    assert useful < cut < 0.9 * whole


def test_useful_arithmetic_is_both_graphs_of_a_pixel(tiny: str) -> None:
    card = models.load(tiny)
    few, many = (arithmetic.useful(card, "s2", dates) for dates in (20, 60))
    # Three layers compare a date with 40 more, twice, over 64 channels.
    assert many - few == pytest.approx(3 * 2 * 64 * 40)
    assert 200e3 < few < 300e3


def test_the_time_in_graphs_is_a_union() -> None:
    assert profile_run.covered([(0, 2), (1, 3), (5, 6), (5.5, 5.7)]) == pytest.approx(4)
    assert profile_run.covered([]) == 0


def test_a_profile_counts_what_a_run_does(site: Path, tiny: str, tmp_path: Path) -> None:
    mirrored.write(tmp_path / "scene", site, 64, 2)
    options = ["--s2", f"{tmp_path / 'scene'}", "--model", tiny, "--output", f"{tmp_path / 'o.tif'}", "--overwrite"]
    options += ["--device", "cpu"]
    done, counted = (profile_run.profile(options, count) for count in (False, True))
    parts = done["parts"]
    assert parts["read"]["calls"] == parts["features"]["calls"] == parts["spatial"]["calls"] == 2
    assert set(parts) >= {"read", "features", "spatial", "temporal", "quantise", "scratch", "write"}
    assert 0 < done["graph_share"] < 1
    assert "spatial" not in counted["parts"]
    assert counted["executed"] == done["executed"] > done["useful"] == counted["useful"]
    # By hand: one block with a halo of 48, and all its pixels in the temporal graph.
    card = models.load(tiny)
    graph = cropped(card.graph_bytes("s2", "spatial"), 48)
    inputs = {"features": (4096, 2, 64), "encoding": (2, 64), "valid": (4096, 2)}
    by_hand = 2 * arithmetic.multiply_adds(graph, {"images": (1, 10, 160, 160)})
    by_hand += arithmetic.multiply_adds(card.graph_bytes("s2", "temporal"), inputs)
    assert done["executed"] == by_hand
    # The watches are off again.
    assert [getattr(owner, name).__name__ for _, owner, name in profile_run.WATCHED] == [
        name for _, _, name in profile_run.WATCHED
    ]
    assert encoding.session.__name__ == "session"
    assert profile_run.Backend.open.__name__ == "open"


@pytest.mark.parametrize("kind", ["vrt", "zarr"])
def test_a_profile_knows_how_long_any_output_is_written(site: Path, tiny: str, tmp_path: Path, kind: str) -> None:
    if kind == "zarr":
        pytest.importorskip("zarr")
    mirrored.write(tmp_path / "scene", site, 64, 2)
    options = ["--s2", f"{tmp_path / 'scene'}", "--model", tiny, "--output", f"{tmp_path / f'o.{kind}'}"]
    written = profile_run.profile([*options, "--format", kind, "--device", "cpu"], False)["parts"]["write"]
    # Begun, and gone on with when the block was there.
    assert written["calls"] == 2
    assert written["threads"] == ["assemble"]
    assert written["seconds"] > 0


def test_a_run_is_measured_and_its_failure_told() -> None:
    """By a process that has done nothing else: a child of this one would begin with its memory."""
    program = (
        "import sys, os, json, measuring\n"
        "def run(code): return measuring.measured('a run', [sys.executable, '-c', code], dict(os.environ))\n"
        "print(json.dumps(run('x = bytearray(300_000_000); print(5)')))\n"
        "big = bytearray(400_000_000)\n"
        "for code in ('import sys; print(8, file=sys.stderr); sys.exit(3)', 'x = bytearray(300_000_000)'):\n"
        "    try: run(code)\n"
        "    except measuring.BenchmarkError as error: print(error)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((f"{ROOT}", f"{ROOT / 'benchmarks'}"))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    measured, failed, hidden = done.stdout.splitlines()
    found, text = json.loads(measured)
    assert text == "5\n"
    assert 300 < found["peak_mb"] < 400
    assert 0 < found["s"] < 60
    assert ("stolen" in found) == (measuring.stolen() is not None)
    assert 0 <= found.get("stolen", 0.0) < 1
    assert failed == "a run ended with code 3: 8"
    assert "cannot be told" in hidden


def test_what_a_host_took_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = tmp_path / "stat"
    account.write_text("cpu  9 2 30 40 5 0 7 250 0 0\ncpu0 5 1 15 20 2 0 3 120 0 0\ncpu1 1 1 1 1 1 1 1 130 0 0\n")
    monkeypatch.setattr(measuring, "processors", lambda: [1])
    assert measuring.stolen(account) == 130 / os.sysconf("SC_CLK_TCK")
    assert measuring.stolen(tmp_path / "none") is None
    account.write_text("cpu  100 2\n")
    assert measuring.stolen(account) is None


@pytest.mark.parametrize(("stolen", "told"), [(None, "40 % |  |"), (0.0, "40 % | 0.0 % |"), (0.068, "40 % | 6.8 % |")])
def test_a_table_tells_each_precisions_ratio_and_what_the_host_took(stolen: float | None, told: str) -> None:
    run = {"s": 1.0, "pixel_dates_per_s": 3e4, "peak_mb": 200.0} | ({} if stolen is None else {"stolen": stolen})
    slower = run | {"pixel_dates_per_s": 1e4, "peak_mb": 800.0}
    faster = run | {"pixel_dates_per_s": 6e4}
    ours = {"note": "640 bands", "block": [64, 64], "planned_mb": 300.0, "executed": 2e9, "executed_gflops": 50.0}
    ratios = {"float32": speed.ratios([run] * 2, [slower] * 2, "pixel_dates_per_s")}
    ratios["bfloat16"] = speed.ratios([faster, run], [slower] * 2, "pixel_dates_per_s")
    ways = {
        "ours, float32": ours | {"median": run, "useful_gflops": 40.0},
        "ours, bfloat16": ours | {"median": faster, "useful_gflops": 80.0},
        "openeo": {"note": "patches of 64", "median": slower, "useful_gflops": 10.0, "times_faster": ratios}
        | {"memory_share": speed.ratios([run], [slower], "peak_mb")},
    }
    case = {"size": 64, "dates": 2, "turns": 2, "useful": 1e9, "ways": ways}
    lines = report._case(case, {"float32": 100.0, "bfloat16": 200.0})
    assert lines[4].startswith("| ours, float32: 640 bands | 30.0 | 200 |  |  |  |")
    assert lines[4].endswith(told)
    assert "| 10.0 | 800 | 3.0 × | 4.5 × (3.0–6.0) | 0.25 × | 10 % |" in lines[6]
    assert {line.count("|") for line in lines[2:7]} == {9}


def test_tables_go_between_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- speed -->\nold\n<!-- /speed -->\nafter\n")
    for _ in range(2):
        report.into_docs("speed", ["new", "lines"], page)
        assert page.read_text() == "before\n<!-- speed -->\n\nnew\nlines\n\n<!-- /speed -->\nafter\n"
    with pytest.raises(measuring.BenchmarkError, match="must have one <!-- flat -->"):
        report.into_docs("flat", ["new"], page)


def benchmark(name: str, testdata: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A finished run of a benchmark's command line."""
    return subprocess.run(
        [sys.executable, f"{ROOT / 'benchmarks' / name}", *options],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MALICE_TESTDATA": f"{testdata}", "PYTHONPATH": f"{ROOT}"},
    )


def test_a_peer_that_runs_out_of_memory_gets_smaller_patches(
    testdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether while its patches are tried out or in a turn: what others have done is not lost."""
    called = list[tuple[str, int, str]]()

    def run(name: str, command: list[str], environment: dict[str, str]) -> tuple[dict[str, float], str]:
        if "--way" not in command:
            called.append((name, 0, ""))
            (tmp_path / "out.tif").touch()
            return {"s": 1.0, "cpu_s": 2.0, "peak_mb": 300.0}, "ours"
        patch, some = (command[command.index(option) + 1] for option in ("--patch", "--only"))
        called.append((name, int(patch), some))
        if int(patch) > 256 or (int(patch) > 240 and name == "downstream"):
            raise measuring.BenchmarkError(f"{name} ended with code 1: bad allocation")
        (tmp_path / "out.tif").touch()
        told = {"seconds": {"graph": 10.0}, "patches": int(some), "all": int(some), "later": 1.0}
        return {"s": 10.0, "cpu_s": 20.0, "peak_mb": 3000.0}, json.dumps(told)

    monkeypatch.setattr(speed, "measured", run)
    monkeypatch.setattr(speed, "installed", lambda *_: {})
    monkeypatch.setattr(speed, "free_memory", lambda: 1e12)
    monkeypatch.setenv("MALICE_TESTDATA", f"{testdata}")
    bench = speed.Bench(argparse.Namespace(work=tmp_path, longest=60.0, disk="25GB", embed=[]))
    case = speed.Case(512, 2, 2)
    contenders = bench.contenders(case, tmp_path / "scene", False)
    assert contenders["downstream"].note.startswith("patches of 256, the largest that fit memory")
    tried = [patch for name, patch, _ in called if name.startswith("downstream, ")]
    assert tried == [288, 272, 256]
    runs, events = bench.turns(case, tmp_path / "scene", contenders)
    assert events["ours, float32"] == "ours"
    assert {name: len(done) for name, done in runs.items()} == {"ours, float32": 2, "openeo": 2, "downstream": 2}
    assert contenders["downstream"].note.startswith("patches of 240, the largest that fit memory")
    assert [patch for name, patch, _ in called if name == "downstream"] == [256, 240, 240]
    assert contenders["openeo"].note.startswith("patches of 128")
    monkeypatch.setattr(speed, "measured", failing := Mock(side_effect=measuring.BenchmarkError("no disk")))
    with pytest.raises(measuring.BenchmarkError, match="no disk"):
        bench.turns(case, tmp_path / "scene", contenders)
    failing.assert_called_once()


def test_a_whole_small_table(testdata: Path, tmp_path: Path) -> None:
    options = ["--cases", "64x2", "--turns", "1", "--work", f"{tmp_path / 'work'}"]
    done = benchmark("speed.py", testdata, *options)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "work" / "speed.json").read_text())
    assert set(found) == {"machine", "peak", "cases", "profile"}
    assert found["peak"]["float32"] > 1
    (case,) = found["cases"]
    assert (case["size"], case["dates"], case["turns"]) == (64, 2, 1)
    assert set(peers.WAYS) < set(case["ways"])
    ours = case["ways"]["ours, float32"]
    for name in case["ways"].keys() - peers.WAYS.keys():
        assert case["ways"][name]["executed"] > case["useful"] > 0
        assert case["ways"][name]["runs"][0]["peak_mb"] < case["ways"][name]["planned_mb"]
    for name, way in case["ways"].items():
        (run,) = way["runs"]
        assert run["pixel_dates_per_s"] == pytest.approx(64 * 64 * 2 / run["s"])
        assert run["whole_s"] == run["s"]
        assert 50 < run["peak_mb"] < 3000
        if name in peers.WAYS:
            ratio = ours["runs"][0]["pixel_dates_per_s"] / run["pixel_dates_per_s"]
            assert way["times_faster"]["float32"]["median"] == pytest.approx(ratio)
    # The same multiply-adds in the profile, which did them.
    assert found["profile"]["executed"] == ours["executed"]
    for text in ("**64 × 64 pixels, 2 dates**", "as openEO users run it", "as downstream code runs it", "| write |"):
        assert text in done.stdout
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"models", "speed.json"}


@pytest.mark.acceptance
def test_the_curve_over_sizes(testdata: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    options = ["--cases", "64x2", "64x3", "128x2", "--starts", "1", "--work", f"{tmp_path / 'work'}"]
    done = benchmark("flat.py", testdata, *options, "--plot", f"{tmp_path / 'memory.png'}")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "work" / "flat.json").read_text())
    assert {(row["size"], row["dates"]) for row in found["runs"]} == {(64, 2), (64, 3), (128, 2)}
    for row in found["runs"]:
        assert row["us_per_pixel_date"] == pytest.approx(1e6 * row["s"] / (row["size"] ** 2 * row["dates"]))
        assert 100 < row["peak_mb"] < row["planned_mb"]
    # A whole tile fits the memory that is the default.
    assert found["tile"]["dates"] == 120
    assert found["tile"]["blocks"] * found["tile"]["block"][0] * found["tile"]["block"][1] >= 10980**2
    assert found["tile"]["planned_mb"] < 2000
    assert 0 < found["start_up"]["plan"] < found["start_up"]["first"]
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"models", "flat.json"}


def test_a_case_that_is_none_is_an_error(testdata: Path, tmp_path: Path) -> None:
    options = ["--cases", "512", "--work", f"{tmp_path / 'work'}"]
    done = subprocess.run(
        [sys.executable, f"{ROOT / 'benchmarks' / 'speed.py'}", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "error: --cases 512: give SIZExDATES, such as 512x20\n"
