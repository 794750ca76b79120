"""Classes learnt from labelled places: against scikit-learn called directly, reports, refusals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

pytest.importorskip("sklearn")
pytest.importorskip("skops")

from helpers_analysis import Array, events, process, read, run, tags_of
from helpers_embed import free_names
from helpers_learning import (
    CROPS,
    SHAPE,
    embedding,
    features,
    fields,
    folds_of,
    kinds,
    labelled_pixels,
    labels,
    pipeline,
    point,
    square,
    write_labels,
)

from malice_core import classify, regress
from malice_core.analysis import learning
from malice_core.errors import InputError


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick forests, the same in what they are compared with."""
    monkeypatch.setattr(learning, "TREES", 20)


def direct(method: str) -> Any:
    found = pipeline(method, False)
    return found.set_params(randomforestclassifier__n_estimators=20) if method == "forest" else found


@pytest.mark.parametrize("method", learning.METHODS)
def test_the_map_and_the_test_are_scikit_learns(tmp_path: Path, method: str) -> None:
    from sklearn.metrics import confusion_matrix
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    values = features()
    paths = {name: tmp_path / name for name in ("c.tif", "p.tif", "r.html", "r.json", "c.skops")}
    recorder = run(
        classify,
        *("--input", embedding(tmp_path / "e.tif"), "--labels", labels(tmp_path / "l.geojson"), "--field", "crop"),
        *("--method", method, "--output", paths["c.tif"], "--probability", paths["p.tif"]),
        *("--report", paths["r.html"], "--report-json", paths["r.json"], "--save-classifier", paths["c.skops"]),
    )
    assert recorder.files == [f"{path}" for path in paths.values()]
    rows, cols, field = labelled_pixels()
    given, target = values[:, rows, cols].T.astype(np.float64), kinds()[rows, cols]
    everything = values.reshape(len(values), -1).T.astype(np.float64)
    model = direct(method).fit(given, target)
    shares = model.predict_proba(everything)
    np.testing.assert_array_equal(read(paths["c.tif"])[0].ravel(), model.predict(everything) + 1)
    np.testing.assert_allclose(read(paths["p.tif"])[0].ravel(), shares.max(axis=1), rtol=1e-5)
    with rasterio.open(paths["c.tif"]) as file:
        assert file.dtypes == ("uint8",)
        assert file.nodata == 0
        table, tags = file.colormap(1), file.tags()
    known = json.loads(tags["MALICE_CLASSES"])
    assert [known[f"{code}"]["name"] for code in (1, 2, 3)] == list(CROPS)
    for code in (1, 2, 3):
        assert "#{:02x}{:02x}{:02x}".format(*table[code][:3]) == known[f"{code}"]["colour"]
    assert tags["MALICE_TOOL"] == "classify"
    assert tags["MALICE_MODEL_ID"] == "0123456789abcdef"
    # The test: the same folds, and scikit-learn's own cross-validation.
    report = json.loads(paths["r.json"].read_text())
    fold = folds_of(report)[field]
    said = cross_val_predict(direct(method), given, target, cv=PredefinedSplit(fold))
    np.testing.assert_array_equal(report["scores"]["confusion"], confusion_matrix(target, said))
    assert 0.4 < report["scores"]["overall_accuracy"] < 1
    assert report["scores"]["untested"] == 0
    assert (report["labels"]["pixels"], report["labels"]["places"]) == (len(rows), len(fields()))
    assert [one["places"] for one in report["classes"]] == np.bincount([kinds()[r, c] for r, c in fields()]).tolist()
    assert f"{100 * report['scores']['overall_accuracy']:.1f} %" in paths["r.html"].read_text()
    # Applied again, and to another year.
    again = tmp_path / "again.tif"
    run(classify, "--input", tmp_path / "e.tif", "--classifier", paths["c.skops"], "--output", again)
    np.testing.assert_array_equal(read(again), read(paths["c.tif"]))
    embedding(tmp_path / "e25.tif", seed=5, year=2025)
    run(classify, "--input", tmp_path / "e25.tif", "--classifier", paths["c.skops"], "--output", tmp_path / "c25.tif")
    later = features(5).reshape(len(values), -1).T.astype(np.float64)
    np.testing.assert_array_equal(read(tmp_path / "c25.tif")[0].ravel(), model.predict(later) + 1)


@pytest.mark.parametrize("method", learning.METHODS)
def test_neither_memory_nor_threads_change_a_bit(tmp_path: Path, method: str) -> None:
    shape = (150, 270)
    missing = np.zeros(shape, bool)
    missing[40:90, 100:111] = True
    embedding(tmp_path / "e.tif", shape=shape, missing=missing)
    labels(tmp_path / "l.geojson")
    found = []
    for number, (memory, threads) in enumerate([("2GB", 2), ("430MB", 1), ("432MB", 3)]):
        names = [tmp_path / f"{kind}{number}{end}" for kind, end in (("c", ".tif"), ("p", ".tif"), ("r", ".json"))]
        run(
            classify,
            *("--input", tmp_path / "e.tif", "--labels", tmp_path / "l.geojson", "--field", "crop"),
            *("--method", method, "--per-place", 20, "--output", names[0], "--probability", names[1]),
            *("--report-json", names[2], "--memory", memory, "--threads", threads),
        )
        report = json.loads(names[2].read_text())
        found.append((read(names[0]).tobytes(), read(names[1]).tobytes(), report["scores"], report["folds"]))
    assert found[0] == found[1] == found[2]
    codes, sure = read(tmp_path / "c0.tif")[0], read(tmp_path / "p0.tif")[0]
    np.testing.assert_array_equal(codes == 0, missing)
    np.testing.assert_array_equal(np.isnan(sure), missing)


def test_labels_without_data_and_classes_without_pixels_are_told(tmp_path: Path) -> None:
    missing = np.zeros(SHAPE, bool)
    missing[:8, :30] = True
    embedding(tmp_path / "e.tif", missing=missing)
    rows = [(square(row, col, 4, 4), {"crop": 10 * (1 + int(kinds()[row, col]))}) for row, col in fields()]
    rows += [(point(5, 9), {"crop": 400}), (point(-5, 2), {"crop": 50}), (point(5, 90), {"crop": None})]
    write_labels(tmp_path / "l.geojson", rows)
    recorder = run(
        classify,
        *("--input", tmp_path / "e.tif", "--labels", tmp_path / "l.geojson", "--output", tmp_path / "c.tif"),
        *("--report-json", tmp_path / "r.json"),
    )
    told = " | ".join(recorder.warnings)
    assert "1 of 79 points and polygons have no pixel" in told
    # Two fields of 4 x 4 and a point.
    assert "33 of 1233 labelled pixels have no data" in told
    assert "classes without a pixel are left out: 50, 400" in told
    # Labels that fit are values of the raster.
    assert set(np.unique(read(tmp_path / "c.tif"))) == {0, 10, 20, 30}
    assert json.loads((tmp_path / "r.json").read_text())["notes"] == recorder.warnings


@pytest.mark.parametrize(
    ("given", "codes", "dtype"),
    [([1, 2, 700], [1, 2, 700], "uint16"), ([0, 1, 2], [1, 2, 3], "uint8"), (["b", "a", "c"], [2, 1, 3], "uint8")],
)
def test_values_of_classes(tmp_path: Path, given: list[Any], codes: list[int], dtype: str) -> None:
    rows = [(square(row + 1, col + 1, 6, 6), {"crop": given[kinds()[row, col]]}) for row, col in fields()]
    run(
        classify,
        *("--input", embedding(tmp_path / "e.tif"), "--labels", write_labels(tmp_path / "l.geojson", rows)),
        *("--output", tmp_path / "c.tif", "--folds", 0),
    )
    with rasterio.open(tmp_path / "c.tif") as file:
        values, table, tags = file.read(1), file.colormap(1), file.tags()
        assert file.dtypes == (dtype,)
    right = values == np.array(codes)[kinds()]
    assert right.mean() > 0.7
    names = json.loads(tags["MALICE_CLASSES"])
    for label, code in zip(given, codes, strict=True):
        assert names[f"{code}"]["name"] == f"{label}"
        assert "#{:02x}{:02x}{:02x}".format(*table[code][:3]) == names[f"{code}"]["colour"]


def test_a_class_in_one_square_cannot_be_tested_and_is_told(tmp_path: Path) -> None:
    rows = [(square(row, col, 6, 6), {"crop": CROPS[kinds()[row, col]]}) for row, col in fields()]
    rows.append((square(8, 1, 2, 2), {"crop": "rye"}))
    recorder = run(
        classify,
        *("--input", embedding(tmp_path / "e.tif"), "--labels", write_labels(tmp_path / "l.geojson", rows)),
        *("--output", tmp_path / "c.tif", "--fold-size", 100, "--report-json", tmp_path / "r.json"),
    )
    assert any("4 pixels are not in the accuracy" in line and "rye" in line for line in recorder.warnings)
    assert any("squares of 100 m are narrower than the 480 m" in line for line in recorder.warnings)
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["scores"]["by_class"][CROPS.index("maize") + 1]["f1"] is None
    assert report["folds"]["metres"] == 100
    assert report["scores"]["tested"] == report["labels"]["pixels"] - 4


class Page(HTMLParser):
    """Tells whether tags are closed, and what is fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [f"{value}" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [f"{value}" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("tool", [classify, regress])
def test_the_page_stands_alone_and_holds_no_foreign_tags(tmp_path: Path, tool: Any) -> None:
    field = "cover" if tool is regress else "crop"
    rows = [
        (square(row, col, 6, 6), {"crop": f"<b>{kinds()[row, col]}&", "cover": float(row)}) for row, col in fields()
    ]
    run(
        tool,
        *("--input", embedding(tmp_path / "e.tif"), "--labels", write_labels(tmp_path / "l<i>.geojson", rows)),
        *("--field", field, "--output", tmp_path / "c.tif", "--report", tmp_path / "r.html"),
    )
    page = Page()
    page.feed((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.links == []
    for words in ("Contains modified Copernicus Sentinel data 2024", "tiny (0123456789abcdef)", "2024-03-01", "l<i>"):
        assert words in page.text
    assert ("<b>2&" in page.text) == (tool is classify)
    assert ("weighted by the mapped areas" in page.text) == (tool is classify)


def test_many_classes_of_one_pixel_are_told_in_short(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    embedding(tmp_path / "e.tif")
    rows = [(point(10 + one % 5 * 8, 10 + one // 5 * 8), {"c": f"class {one}"}) for one in range(20)]
    given = ("--labels", write_labels(tmp_path / "l.geojson", rows), "--folds", 2)
    (line,) = [one for one in run(classify, *arguments(tmp_path, *given)).warnings if "in the accuracy" in one]
    assert "class 0, class 1, class 10" in line
    assert " and 10 more;" in line
    assert not recwarn.list


def arguments(folder: Path, *more: object) -> list[object]:
    return ["--input", folder / "e.tif", "--output", folder / "c.tif", *more]


@pytest.mark.parametrize(
    ("rows", "more", "told"),
    [
        ([(point(5, 500), {"c": 1}), (point(6, 600), {"c": 2})], [], "do they overlap"),
        ([(point(1, 1), {"c": 1}), (point(2, 2), {"c": 2})], [], "only class 1|no labelled pixel has data"),
        ([(point(40, 40), {"c": "a"}), (point(50, 50), {"c": "a"})], [], "has one class, a, two or more are needed"),
        ([(point(40, 40), {"c": None})], [], "no class, two or more"),
        ([(point(40, 40), {"c": 1}), (point(50, 50), {"c": 2})], [], "lie in 2 squares .* fewer than --folds 5"),
        ([(point(40, 40), {"c": 1}), (point(50, 50), {"c": 2})], ["--folds", 2], "fold [12] leaves one class"),
        ([(point(40, 40), {"c": 1.5})], [], "classes are whole numbers or texts"),
        ([(point(40, 40), {"c": 1, "d": 2})], [], "fields c, d: name one, --field NAME"),
        ([(point(40, 40), {"c": 1})], ["--field", "x"], "no such field"),
        ([(point(40, 40), {"c": one}) for one in range(1001)], [], "more than 1000"),
        ([(point(40, 40), {"c": 1})], ["--report", "r.txt"], "ends in .html"),
        ([(point(40, 40), {"c": 1})], ["--save-classifier", "r.pkl"], "ends in .skops"),
        ([(point(40, 40), {"c": 1})], ["--probability", "p.png"], "ends in .tif"),
        ([(point(r, 40), {"c": r % 2}) for r in range(20, 60)], ["--memory", "100MB"], "--memory"),
    ],
)
def test_labels_that_cannot_be_used(tmp_path: Path, rows: list[Any], more: list[object], told: str) -> None:
    missing = np.zeros(SHAPE, bool)
    missing[:8, :30] = True
    embedding(tmp_path / "e.tif", missing=missing)
    path = write_labels(tmp_path / "l.geojson", rows)
    with pytest.raises(InputError, match=told) as error:
        run(classify, *arguments(tmp_path, "--labels", path, *more))
    assert "\n" not in f"{error.value}"
    assert free_names(tmp_path) == ["e.tif", "l.geojson"]


def test_options_that_contradict_are_refused(tmp_path: Path) -> None:
    path = labels(tmp_path / "l.geojson")
    embedding(tmp_path / "e.tif")
    for more, told in (
        ([], "one of the arguments --labels --classifier is required"),
        (["--labels", path, "--classifier", "c.skops"], "not allowed with"),
        (["--classifier", "c.skops", "--report", "r.html"], "--report is of training"),
        (["--classifier", "c.skops", "--seed", 3], "--seed is of training"),
        (["--labels", path, "--folds", 1], "0, or a number of folds from 2 on"),
        (["--classifier", tmp_path / "none.skops"], "cannot read --classifier"),
        (["--classifier", ""], "an empty path"),
        (["--labels", path, "--report", ""], "an empty path"),
        (["--labels", path, "--threads", 1 << 21], "'2097152' is not a whole number, 1 to 1048576"),
        (["--labels", path, "--field", "crop", "--memory", "1" * 400], "no machine has as much"),
    ):
        with pytest.raises(InputError, match=told):
            run(classify, *arguments(tmp_path, *more))


def test_a_stopped_run_leaves_nothing(tmp_path: Path) -> None:
    """By SIGTERM while folds are tested: exit code 3; by SIGKILL: what is left is not under a final name."""
    embedding(tmp_path / "e.tif")
    labels(tmp_path / "l.geojson")
    line = [sys.executable, "-m", "malice_core.classify", "--input", "e.tif", "--labels", "l.geojson"]
    line += ["--field", "crop", "--method", "forest", "--output", "c.tif", "--report", "r.html"]
    line += ["--save-classifier", "c.skops", "--progress", "json", "--threads", "1"]
    for number in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            for event in running.stdout:
                if '"event": "plan"' in event:
                    break
            running.send_signal(number)
            rest = running.stdout.read()
        if number == signal.SIGTERM:
            assert running.returncode == 3
            assert events(rest)[-1] == {"event": "error", "code": 3, "message": "cancelled; nothing was written"}
            assert free_names(tmp_path) == ["e.tif", "l.geojson"]
        else:
            assert set(free_names(tmp_path)) <= {"e.tif", "l.geojson", "c.tif.malice"}


def test_the_command_line(tmp_path: Path) -> None:
    embedding(tmp_path / "e.tif")
    labels(tmp_path / "l.geojson")
    common = ("--input", "e.tif", "--labels", "l.geojson", "--field", "crop", "--output", "c.tif")
    done = process("classify", *common, "--progress", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = events(done.stdout)
    assert told[-1]["event"] == "done"
    assert told[-1]["files"] == ["c.tif"]
    plans = [one for one in told if one["event"] == "plan"]
    assert plans[0]["plan"]["folds"] == 5
    assert "overall accuracy" in plans[1]["text"]
    done = process("classify", *common, cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr.strip() == "error: --output c.tif exists already: give --overwrite to replace it, or another name"
    )
    assert tags_of(tmp_path / "c.tif")["MALICE_OPTIONS"].startswith("--labels l.geojson --method linear")


def test_other_coordinates_and_layers(tmp_path: Path) -> None:
    """Labels in degrees give the same map, within a pixel's edge."""
    from rasterio.warp import transform_geom

    embedding(tmp_path / "e.tif")
    content = json.loads(labels(tmp_path / "l.geojson").read_text())
    del content["crs"]
    for one in content["features"]:
        one["geometry"] = transform_geom("EPSG:32631", "OGC:CRS84", one["geometry"])
    (tmp_path / "d.geojson").write_text(json.dumps(content))
    maps: list[Array] = []
    for name in ("l", "d"):
        output = tmp_path / f"{name}.tif"
        given = ("--labels", tmp_path / f"{name}.geojson", "--field", "crop", "--folds", 0)
        run(classify, "--input", tmp_path / "e.tif", *given, "--output", output)
        maps.append(read(output))
    np.testing.assert_array_equal(*maps)
