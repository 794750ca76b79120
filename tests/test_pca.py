"""``malice_core.pca`` against numpy and scikit-learn on whole arrays; fits that are kept; runs that end early."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers_analysis import Array, events, process, read, run, smooth, tags_of, write
from helpers_embed import free_names

from malice_core import pca
from malice_core.analysis import components, windows
from malice_core.errors import Cancelled, InputError, OutputError
from malice_core.scratch import folder_of

SHAPE = (150, 290)
#: Memory for windows of one cell, of several, and of the whole raster; of 16 bands.
MEMORIES = ["300MB", "305MB", "2GB"]


@pytest.fixture(scope="module")
def values() -> Array:
    return smooth(16, SHAPE)


@pytest.fixture(scope="module")
def gone() -> Array:
    return np.random.default_rng(3).random(SHAPE) < 0.2


@pytest.fixture
def embedding(tmp_path: Path, values: Array, gone: Array) -> Path:
    return write(tmp_path / "e.tif", values, missing=gone)


def test_components_are_those_of_scikit_learn_on_the_whole_array(
    tmp_path: Path, embedding: Path, values: Array, gone: Array
) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    recorder = run(pca, "--input", embedding, "--output", tmp_path / "p.tif", "--save-fit", tmp_path / "f.json")
    assert recorder.files == [f"{tmp_path / 'p.tif'}", f"{tmp_path / 'f.json'}"]
    assert recorder.shares[0] == 0
    assert recorder.shares[-1] == 1
    assert recorder.shares == sorted(recorder.shares)
    table = values[:, ~gone].T.astype(np.float64)
    wanted = decomposition.PCA(3, svd_solver="full").fit(table)
    found = read(tmp_path / "p.tif")
    assert np.isnan(found[:, gone]).all()
    # scikit-learn has the same convention of signs.
    np.testing.assert_allclose(found[:, ~gone], wanted.transform(table).T, atol=2e-6)
    fit = json.loads((tmp_path / "f.json").read_text())
    np.testing.assert_allclose(fit["mean"], wanted.mean_, rtol=1e-12)
    np.testing.assert_allclose(fit["components"], wanted.components_, atol=1e-10)
    np.testing.assert_allclose(fit["explained_variance"], wanted.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(fit["explained_variance_ratio"], wanted.explained_variance_ratio_, rtol=1e-10)
    assert fit["pixels"] == (~gone).sum()
    ends = np.percentile(found[:, ~gone].astype(np.float64), (2, 98), axis=1).T
    np.testing.assert_allclose(fit["stretch"], ends, atol=np.sqrt(wanted.explained_variance_).max() / 256)
    with rasterio.open(tmp_path / "p.tif") as file, rasterio.open(embedding) as source:
        assert file.descriptions == ("PC1", "PC2", "PC3")
        assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
        assert np.isnan(file.nodata)
        tags = file.tags()
    assert json.loads(tags["MALICE_STRETCH"]) == fit["stretch"]
    assert tags["MALICE_TOOL"] == "pca"
    assert tags["MALICE_MODEL_ID"] == "0123456789abcdef"
    assert tags["MALICE_FIT"] == fit["identity"]
    assert tags["MALICE_SOURCE"] == "e.tif"
    assert tags["MALICE_DATES_S2"] == "2024-03-01,2024-06-01"
    assert "--components 3" in tags["MALICE_OPTIONS"]


def test_neither_memory_nor_threads_change_a_bit(tmp_path: Path, embedding: Path) -> None:
    results, sides = [], []
    plan = windows.plan

    def noted(*arguments: object, **options: object) -> tuple[int, int]:
        sides.append(plan(*arguments, **options))
        return sides[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "plan", noted)
        for memory, threads in zip(MEMORIES, (1, 2, 5), strict=True):
            output, fit = tmp_path / f"{memory}.tif", tmp_path / f"{memory}.json"
            run(
                *(pca, "--input", embedding, "--output", output, "--components", 5, "--save-fit", fit),
                *("--memory", memory, "--threads", threads),
            )
            results.append((read(output).tobytes(), fit.read_text()))
    assert len({sides[0], sides[2], sides[4]}) == 3, sides
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("name", ["t.vrt", "t.zarr", "t.tif"])
@pytest.mark.parametrize("dtype", ["float16", "int16", "int8"])
def test_other_types_and_formats_give_nearly_the_same(
    tmp_path: Path, embedding: Path, values: Array, gone: Array, dtype: str, name: str
) -> None:
    if name.endswith("zarr"):
        pytest.importorskip("zarr")
    run(pca, "--input", embedding, "--output", tmp_path / "p.tif")
    other = write(tmp_path / name, values, missing=gone, dtype=dtype)
    run(pca, "--input", other, "--output", tmp_path / "o.tif")
    one, two = read(tmp_path / "p.tif"), read(tmp_path / "o.tif")
    np.testing.assert_array_equal(np.isnan(one), np.isnan(two))
    assert np.nanmax(np.abs(one - two)) < {"float16": 0.01, "int16": 0.002, "int8": 0.1}[dtype]


def test_a_fit_gives_another_year_the_same_axes_and_colours(tmp_path: Path, embedding: Path, values: Array) -> None:
    fit = tmp_path / "f.json"
    run(pca, "--input", embedding, "--output", tmp_path / "p.tif", "--components", 4, "--save-fit", fit)
    # Another place, of another size, brighter.
    later = write(tmp_path / "l.tif", values[:, 10:60, 5:50] + 0.1, year=2025, origin=(600000.0, 5700000.0))
    run(pca, "--input", later, "--output", tmp_path / "q.tif", "--fit", fit, "--components", 3)
    content = json.loads(fit.read_text())
    axes = np.array(content["components"])[:3]
    with rasterio.open(later) as file:
        shifted = file.read().astype(np.float64) - np.array(content["mean"])[:, None, None]
    np.testing.assert_allclose(read(tmp_path / "q.tif"), np.einsum("kf,frc->krc", axes, shifted), atol=2e-6)
    assert json.loads(tags_of(tmp_path / "q.tif")["MALICE_STRETCH"]) == content["stretch"][:3]
    # On its own raster a fit gives what it was saved with.
    run(pca, "--input", embedding, "--output", tmp_path / "again.tif", "--fit", fit)
    np.testing.assert_array_equal(read(tmp_path / "again.tif"), read(tmp_path / "p.tif"))
    assert tags_of(tmp_path / "again.tif")["MALICE_FIT"] == tags_of(tmp_path / "p.tif")["MALICE_FIT"]


@pytest.mark.parametrize(("moved", "told"), [(0.1, False), (2.0, True)])
def test_a_fit_of_pixels_unlike_those_it_is_used_on_is_told(
    tmp_path: Path, embedding: Path, values: Array, moved: float, told: bool
) -> None:
    fit = tmp_path / "f.json"
    run(pca, "--input", embedding, "--output", tmp_path / "p.tif", "--save-fit", fit)
    content = json.loads(fit.read_text())
    # Along the axes themselves, in standard deviations of each.
    steps = np.einsum("kf,k->f", content["components"], moved * np.sqrt(content["explained_variance"]))
    later = write(tmp_path / "l.tif", values + steps[:, None, None].astype(np.float32), year=2025)
    recorder = run(pca, "--input", later, "--output", tmp_path / "q.tif", "--fit", fit)
    warnings = [text for text in recorder.warnings if "standard deviations off" in text]
    assert len(warnings) == told
    if told:
        assert "f.json" in warnings[0]
        assert "l.tif" in warnings[0]


def test_a_fit_on_a_sample_is_near_that_on_all_and_the_same_whatever_the_memory(
    tmp_path: Path, embedding: Path
) -> None:
    run(pca, "--input", embedding, "--output", tmp_path / "p.tif", "--save-fit", tmp_path / "f.json")
    for memory in MEMORIES:
        run(
            *(pca, "--input", embedding, "--output", tmp_path / f"{memory}.tif", "--sample", 3000, "--memory", memory),
            *("--save-fit", tmp_path / f"{memory}.json"),
        )
        np.testing.assert_array_equal(read(tmp_path / f"{memory}.tif"), read(tmp_path / f"{MEMORIES[0]}.tif"))
    whole, part = (json.loads((tmp_path / name).read_text()) for name in ("f.json", f"{memory}.json"))
    assert part["pixels"] == 3000
    np.testing.assert_allclose(part["explained_variance"], whole["explained_variance"], rtol=0.1)
    run(
        *(pca, "--input", embedding, "--output", tmp_path / "s.tif", "--sample", 3000, "--seed", 2),
        *("--save-fit", tmp_path / "s.json"),
    )
    assert json.loads((tmp_path / "s.json").read_text())["mean"] != part["mean"]
    # A sample of more pixels than there are is all of them.
    run(
        *(pca, "--input", embedding, "--output", tmp_path / "b.tif", "--sample", 10**6),
        *("--save-fit", tmp_path / "b.json"),
    )
    big = json.loads((tmp_path / "b.json").read_text())
    assert big["pixels"] == whole["pixels"]
    np.testing.assert_allclose(big["components"], whole["components"], atol=1e-9)


def test_means_far_from_zero_cost_no_digits() -> None:
    rng = np.random.default_rng(0)
    table = (rng.normal(0, 1, (3, 5000)) * [[1], [2], [3]] + 1e5).astype(np.float32)
    total = components.Moments.none(3)
    for begin in range(0, 5000, 700):
        total.add(components.Moments.of(table[:, begin : begin + 700]))
    total.add(components.Moments.of(table[:, :0]))
    np.testing.assert_allclose(total.scatter / 4999, np.cov(table.astype(np.float64)), rtol=1e-10)
    np.testing.assert_allclose(total.mean, table.mean(axis=1, dtype=np.float64), rtol=1e-14)


def test_percentiles_of_bins() -> None:
    rng = np.random.default_rng(1)
    for numbers in (rng.normal(0, 1, 20000), rng.exponential(1, 20000) - 1, np.zeros(5), np.array([-1.5, 2.25])):
        fit = components.Components(
            *(None, np.zeros(1), np.eye(1), np.array([4.0]), np.ones(1), 1, (), {})  # type: ignore[arg-type]
        )
        stretch = fit.stretched(fit.histograms(2 * numbers[None]).astype(np.int64)).stretch
        wanted = 2 * np.percentile(numbers, (2, 98), method="inverted_cdf")
        np.testing.assert_allclose(stretch[0], wanted, atol=2 / 256)


def test_one_pixel_and_no_pixel(tmp_path: Path, values: Array) -> None:
    fit = tmp_path / "f.json"
    whole = write(tmp_path / "e.tif", values)
    run(pca, "--input", whole, "--output", tmp_path / "p.tif", "--save-fit", fit)
    one = write(tmp_path / "one.tif", values[:, :1, :1])
    nothing = write(tmp_path / "nothing.tif", values, missing=np.ones(SHAPE, bool))
    with pytest.raises(InputError, match=r"one\.tif has 1 pixels with data, 3 components need at least 4"):
        run(pca, "--input", one, "--output", tmp_path / "o.tif")
    with pytest.raises(InputError, match=r"nothing\.tif has 0 pixels"):
        run(pca, "--input", nothing, "--output", tmp_path / "o.tif")
    with pytest.raises(InputError, match=r"nothing\.tif has no pixel with data"):
        run(pca, "--input", nothing, "--output", tmp_path / "o.tif", "--sample", 10)
    run(pca, "--input", one, "--output", tmp_path / "o.tif", "--fit", fit)
    np.testing.assert_allclose(read(tmp_path / "o.tif")[:, 0, 0], read(tmp_path / "p.tif")[:, 0, 0], atol=1e-6)
    run(pca, "--input", nothing, "--output", tmp_path / "n.tif", "--fit", fit)
    assert np.isnan(read(tmp_path / "n.tif")).all()
    # All pixels alike: components of no variance.
    flat = write(tmp_path / "flat.tif", np.full((8, 20, 20), 0.5))
    run(pca, "--input", flat, "--output", tmp_path / "z.tif")
    np.testing.assert_array_equal(read(tmp_path / "z.tif"), 0)
    assert json.loads(tags_of(tmp_path / "z.tif")["MALICE_STRETCH"]) == [[0.0, 0.0]] * 3


def test_what_cannot_be_is_refused_and_nothing_is_written(tmp_path: Path, embedding: Path, values: Array) -> None:
    fit = tmp_path / "f.json"
    run(pca, "--input", embedding, "--output", tmp_path / "p.tif", "--save-fit", fit)
    before = free_names(tmp_path)
    others = {
        r"f\.json is of model tiny \(0123456789abcdef\), .*m\.tif of big \(ffff\)": {
            "model": "big",
            "model_id": "ffff",
        },
        r"sensors S2, .*m\.tif of S1": {"sensors": ("s1",)},
        r"queries 0, .*m\.tif of 3": {"queries": (3,)},
    }
    for words, options in others.items():
        other = write(tmp_path / "m.tif", values[:, :9, :9], **options)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=words):
            run(pca, "--input", other, "--output", tmp_path / "o.tif", "--fit", fit)
        other.unlink()
    start = ("--input", embedding, "--output", tmp_path / "o.tif")
    for arguments, words in (
        ([*start, "--components", 17], "--components 17: .* has 16 bands"),
        ([*start, "--fit", fit, "--components", 4], r"--components 4: .*f\.json has 3"),
        ([*start, "--fit", fit, "--sample", 4], "--sample is of a fit"),
        ([*start, "--fit", tmp_path / "none.json"], "--fit: cannot read"),
        ([*start, "--fit", embedding], "--fit: cannot read"),
        ([*start, "--fit", fit, "--save-fit", fit], "not allowed with"),
        ([*start, "--memory", "100MB"], r"--memory 0\.1 GB is too little"),
        ([*start, "--save-fit", tmp_path / "o.tif"], "the same file"),
        ([*start[:3], embedding], "is an input"),
        ([*start[:3], embedding, "--overwrite"], "is an input"),
        ([*start[:3], tmp_path / "p.tif"], "exists already"),
        ([*start[:3], fit, "--fit", fit, "--overwrite"], "ends in .tif"),
        ([*start[:3], tmp_path / "o.png"], "ends in .tif"),
        (["--input", tmp_path / "p.tif", *start[2:]], "is a result of malice_core.pca"),
    ):
        with pytest.raises((InputError, OutputError), match=words):
            run(pca, *arguments)
    assert free_names(tmp_path) == before


def test_damaged_fits_are_refused(tmp_path: Path, embedding: Path) -> None:
    fit = tmp_path / "f.json"
    run(pca, "--input", embedding, "--output", tmp_path / "p.tif", "--save-fit", fit)
    good = json.loads(fit.read_text())
    for change in (
        {"mean": good["mean"][:-1]},
        {"components": [[0] * 16, [0] * 15]},
        {"explained_variance": [1, 2, -1]},
        {"stretch": [[0, 1]] * 2},
        {"mean": [float("nan")] * 16},
        {"pixels": "many"},
        {"pixels": math.inf},
        {"mean": [10**400] * 16},
        {"embedding": {}},
        {"schema": 7},
        {"tool": "cluster"},
    ):
        fit.write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=r"--fit .*f\.json is (damaged|no fit)") as error:
            run(pca, "--input", embedding, "--output", tmp_path / "o.tif", "--fit", fit)
        assert "\n" not in f"{error.value}"
    for text in ("[]", "{", "3", ""):
        fit.write_text(text)
        with pytest.raises(InputError, match="--fit"):
            run(pca, "--input", embedding, "--output", tmp_path / "o.tif", "--fit", fit)


def test_overwriting_keeps_the_old_until_the_new_is_whole(
    tmp_path: Path, embedding: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "p.tif"
    run(pca, "--input", embedding, "--output", output)
    old = output.read_bytes()

    def broken(*arguments: object) -> None:
        raise OutputError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("malice_core.analysis.result.ResultRaster.close", broken)
        with pytest.raises(OutputError, match="disk full"):
            run(pca, "--input", embedding, "--output", output, "--components", 2, "--overwrite")
    assert output.read_bytes() == old
    run(pca, "--input", embedding, "--output", output, "--components", 2, "--overwrite")
    assert len(read(output)) == 2
    assert free_names(tmp_path) == ["e.tif", "p.tif"]


def test_the_command_line_tells_events_and_errors(tmp_path: Path, embedding: Path) -> None:
    done = process("pca", "--input", embedding, "--output", tmp_path / "p.tif", "--progress", "json")
    assert done.returncode == 0, done.stderr
    told = events(done.stdout)
    assert {event["event"] for event in told} == {"progress", "done"}
    assert {"done", "total", "step", "eta_s"} <= set(told[0])
    assert told[-1]["files"] == [f"{tmp_path / 'p.tif'}"]
    assert read(tmp_path / "p.tif").shape == (3, *SHAPE)
    again = process("pca", "--input", embedding, "--output", tmp_path / "p.tif", "--progress", "json")
    assert again.returncode == 2
    (error,) = events(again.stdout)
    assert error["event"] == "error"
    assert error["code"] == 2
    assert "--overwrite" in error["message"]
    assert again.stderr.count("\n") == 1
    wrong = process("pca", "--input", embedding)
    assert wrong.returncode == 2
    assert "--output" in wrong.stderr


#: A run that takes long: in the work of each cell, or deep in a library that reads.
SLOW = """
import sys, time
from malice_core import pca
from malice_core.analysis import decoding
from malice_core.analysis.components import Components

def slow(kind, name, seconds):
    plain = getattr(kind, name)

    def late(self, *arguments):
        time.sleep(seconds)
        return plain(self, *arguments)

    setattr(kind, name, late)

if sys.argv.pop(1) == "stuck":
    slow(decoding.Raster, "read", 20)
else:
    slow(Components, "of", 0.3)
sys.exit(pca.main())
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("how", ["signal", "stdin", "kill", "stuck"])
def test_a_run_that_is_stopped_leaves_nothing(tmp_path: Path, how: str) -> None:
    embedding = write(tmp_path / "e.tif", np.repeat(smooth(16, (300, 290)), 8, axis=0).clip(-2, 2), queries=range(2))
    line = ["--input", embedding, "--output", tmp_path / "p.tif", "--threads", 1, "--cancel-on-stdin-close"]
    running = subprocess.Popen(
        [sys.executable, "-c", SLOW, how, *map(str, line)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    growing = folder_of(tmp_path / "p.tif") / ("tool.lock" if how == "stuck" else "0.tif")
    deadline = time.monotonic() + 100
    while not growing.exists() and time.monotonic() < deadline:
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    time.sleep(0.2)
    begun = time.monotonic()
    if how == "kill":
        running.kill()
    elif how == "stdin":
        assert running.stdin is not None
        running.stdin.close()
        running.stdin = None
    else:
        running.send_signal(signal.SIGTERM)
    _, told = running.communicate()
    if how == "kill":
        assert not (tmp_path / "p.tif").exists()
        done = process("pca", "--input", embedding, "--output", tmp_path / "p.tif")
        assert done.returncode == 0, done.stderr
        assert free_names(tmp_path) == ["e.tif", "p.tif"]
        return
    assert running.returncode == Cancelled.exit_code
    assert time.monotonic() - begun < 2, "a second, on a machine that is busy"
    assert told.strip().splitlines()[-1] == "error: cancelled; nothing was written"
    assert free_names(tmp_path) == ["e.tif"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_output_that_is_full_or_closed_and_paths_too_long_end_in_one_line(tmp_path: Path, embedding: Path) -> None:
    def ended(shell: str, *more: str) -> tuple[int, str]:
        line = [sys.executable, "-m", "malice_core.pca", "--input", f"{embedding}", "--output", f"{tmp_path / 'p.tif'}"]
        done = subprocess.run(
            ["sh", "-c", f'"$@" {shell}', "sh", *line, "--overwrite", *more],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    full = "error: stdout: there is no space left on its disk; free some\n"
    assert ended(">/dev/full") == (2, full)
    assert ended(">/dev/full", "--progress", "json") == (2, full)
    assert ended(">&-") == ended("2>&-") == ended(">&-", "--progress", "json") == (0, "")
    code, told = ended("", "--fit", "x" * 300 + ".json")
    assert (code, told.count("\n")) == (2, 1)
