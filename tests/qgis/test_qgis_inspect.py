"""``malice:inspect``: report and table as the engine makes them, what it refuses, and cancelling."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from qgis.core import (
    QgsApplication,
    QgsDateTimeRange,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterFile,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QDate, QDateTime, Qt, QTime

from helpers_qgis import S2_BANDS, Log, Shell, fake_engine, one_line, write_series


def engine_json(python: str, scene: Path, folder: Path, *arguments: object) -> dict:
    """The engine's own report, from the shell."""
    subprocess.run(
        [
            python,
            "-I",
            "-m",
            "malice_core.inspect",
            "--json",
            str(folder / "e.json"),
            "--no-trial",
            *map(str, arguments),
        ],
        env={**os.environ, "MALICE_MODELS": str(scene / "models")},
        check=True,
        capture_output=True,
        timeout=300,
    )
    return json.loads((folder / "e.json").read_text(encoding="utf-8"))


def run(provider: object, context: QgsProcessingContext, parameters: dict, log: Log | None = None) -> dict:
    results, good = provider.algorithm("inspect").create().run(parameters, context, log or Log(), catchExceptions=False)
    assert good
    return results


def test_report_and_table_say_what_the_engine_says(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, engine: str
) -> None:
    log = Log()
    parameters = {
        "FOLDER_S2": str(scene / "S2"),
        "FOLDER_S1": str(scene / "S1"),
        "MODEL": "tiny",
        "DATE_FROM": QDate(2018, 1, 10),
        "REPORT": str(tmp_path / "r.html"),
        "TABLE": str(tmp_path / "dates.gpkg"),
    }
    results = run(provider, context, parameters, log)
    assert results["REPORT"] == str(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "<script" not in page
    wanted = engine_json(
        engine, scene, tmp_path, "--s2", scene / "S2", "--s1", scene / "S1", "--model", "tiny", "--dates", "2018-01-10/"
    )["dates"]
    layer = QgsVectorLayer(results["TABLE"], "dates", "ogr")
    assert layer.isValid()
    assert not layer.isSpatial()
    rows = list(layer.getFeatures())
    assert len(rows) == len(wanted) == 7
    for row, told in zip(rows, wanted, strict=True):
        assert row["date"].toString("yyyy-MM-dd") == told["date"]
        for name in ("sensor", "used", "valid_percent", "low", "high"):
            assert row[name] == told[name] or (told[name] is None and not row[name]), name
        assert row["reason"] == told["reason"].replace("--dates", "DATE_FROM/DATE_TO")
        assert row["files"] == "; ".join(told["files"])
    assert [row["used"] for row in rows] == [False, True, True, True, False, True, True]
    assert {row["reason"] for row in rows} == {"", "outside DATE_FROM/DATE_TO 2018-01-10/"}
    assert "outside DATE_FROM/DATE_TO" in page
    # What the report says in words is in the log.
    assert any("3 of 4 dates used" in text for text in log.texts)


def test_only_the_report(provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path) -> None:
    parameters = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "REPORT": str(tmp_path / "r.html"), "TABLE": None}
    assert run(provider, context, parameters) == {"REPORT": str(tmp_path / "r.html")}
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_units_that_a_run_refuses_are_reported(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    """Decibels: malice:embed ends there; the report says so, and of which image, and has the table."""
    from osgeo import gdal

    for path in sorted((scene / "S1").glob("*.tif")):
        dataset = gdal.Open(str(path))
        options = gdal.TranslateOptions(outputType=gdal.GDT_Float32, scaleParams=[[0, 1, -20, -5]] * 2, noData="nan")
        gdal.Translate(str(tmp_path / path.name), dataset, options=options)
    log = Log()
    parameters = {
        "FOLDER_S1": str(tmp_path),
        "MODEL": "tiny",
        "REPORT": str(tmp_path / "r.html"),
        "TABLE": "memory:",
    }
    results = run(provider, context, parameters, log)
    assert "would be refused" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert any("so dB" in warning for warning in log.warnings)
    layer = context.takeResultLayer(results["TABLE"])
    assert [row["used"] for row in layer.getFeatures()] == [False] * 3
    assert all("so dB" in row["reason"] for row in layer.getFeatures())


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (
            {"FOLDER_S1": "{scene}/S1", "SCL": "{scene}/S2/S2_20180105.tif"},
            {"SCL/FOLDER_SCL belongs to Sentinel-2 images: give INPUT_S2/FOLDER_S2 too, or drop SCL/FOLDER_SCL"},
        ),
        (
            {"FOLDER_S2": "{scene}/S2", "MAX_CLOUD": "20"},
            {"MAX_CLOUD needs the scene classification: give SCL/FOLDER_SCL with its files"},
        ),
        (
            {"FOLDER_S1": "{scene}/S1", "MODEL": "aux", "MAX_CLOUD": "20"},
            {
                "model aux is MALICE Aux and needs weather (AgERA5) and terrain too: give WEATHER and DEM",
                "MAX_CLOUD needs the scene classification: give SCL/FOLDER_SCL with its files",
            },
        ),
        (
            {"FOLDER_S1": "{scene}/S1", "ANGLES_S1": "38.5", "DEM": "{scene}/S1/S1_20180105.tif"},
            {
                "model tiny sees images alone, it takes no DEM, ANGLES_S1: drop that, or choose a model of MALICE Aux "
                "with MODEL"
            },
        ),
    ],
)
def test_what_lacks_or_does_not_go_together_is_in_the_report(
    provider: object,
    context: QgsProcessingContext,
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    parameters: dict,
    says: set,
) -> None:
    """malice:embed refuses it one by one before anything runs; here all of it is told at once."""
    monkeypatch.setenv("MALICE_MODELS", os.pathsep.join([str(scene / "models"), str(scene / "more")]))
    given = {"MODEL": "tiny", **{name: text.format(scene=scene) for name, text in parameters.items()}}
    embed = {**given, "OUTPUT": str(tmp_path / "e.tif")}
    assert not provider.algorithm("embed").create().checkParameterValues(embed, context)[0]
    given |= {"REPORT": str(tmp_path / "r.html"), "TABLE": "memory:"}
    algorithm = provider.algorithm("inspect").create()
    assert algorithm.checkParameterValues(given, context) == (True, "")
    log = Log()
    run(provider, context, given, log)
    refused = {line.partition("would be refused: ")[2] for line in log.warnings if "would be refused: " in line}
    assert refused == says
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for line in says:
        assert line in page


def test_layers_without_their_bands_are_the_engines_to_report(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    write_series(tmp_path / "S2", 1, S2_BANDS[:-1])
    layer = QgsRasterLayer(str(tmp_path / "S2" / "S2_20180105.tif"), "nine bands", "gdal")
    QgsProject.instance().addMapLayer(layer)
    given = {"INPUT_S2": [layer], "MODEL": "tiny", "OUTPUT": str(tmp_path / "e.tif")}
    assert "has the band B12" in provider.algorithm("embed").create().checkParameterValues(given, context)[1]
    given |= {"REPORT": str(tmp_path / "r.html"), "TABLE": "memory:"}
    algorithm = provider.algorithm("inspect").create()
    assert algorithm.checkParameterValues(given, context) == (True, "")
    with pytest.raises(QgsProcessingException, match="B12"):
        run(provider, context, given)


def test_the_table_is_named_after_sensors_and_dates(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import processing

    monkeypatch.setattr("processing.gui.Postprocessing.iface", None, raising=False)
    given = {"FOLDER_S2": str(scene / "S2"), "FOLDER_S1": str(scene / "S1"), "MODEL": "tiny"}
    for number, more in enumerate(({}, {"FOLDER_S1": None})):
        wanted = {"REPORT": str(tmp_path / f"{number}.html"), "TABLE": "TEMPORARY_OUTPUT"}
        processing.runAndLoadResults("malice:inspect", {**given, **more, **wanted}, context=context)
    names = sorted(one.name() for one in QgsProject.instance().mapLayers().values())
    assert names == ["Dates – S2 2018-01-05 – 2018-02-04", "Dates – S2+S1 2018-01-05 – 2018-02-04"]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({}, "Nothing is chosen"),
        ({"FOLDER_S2": "/nowhere"}, "/nowhere"),
        ({"FOLDER_S2": "{scene}/S2", "REPORT": "{tmp}/r.txt"}, "ends in .html"),
        ({"FOLDER_S2": "{scene}/S2", "REPORT": "{tmp}/no/r.html"}, "cannot be written"),
        ({"FOLDER_S2": "{scene}/S2", "EXTENT": "0,100,0,100"}, "lies outside"),
        ({"FOLDER_S2": "{scene}/S2", "EXACT": "maybe"}, "EXACT 'maybe' is neither"),
    ],
)
def test_what_is_wrong_is_one_line(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, parameters: dict, says: str
) -> None:
    given = {name: text.format(scene=scene, tmp=tmp_path) for name, text in parameters.items()}
    given = {"MODEL": "tiny", "REPORT": str(tmp_path / "r.html"), "TABLE": "memory:", **given}
    algorithm = provider.algorithm("inspect").create()
    allowed, message = algorithm.checkParameterValues(given, context)
    if allowed:
        with pytest.raises(QgsProcessingException) as raised:
            algorithm.run(given, context, Log(), catchExceptions=False)
        message = str(raised.value)
    assert says in message
    assert "\n" not in message.strip()
    assert list(tmp_path.iterdir()) == []


def test_cancel_leaves_nothing(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "e").mkdir()
    slow = 'case "$*" in *--contract*) echo \'{"contract": 1, "version": "0"}\';; *) exec sleep 60;; esac\n'
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", fake_engine(tmp_path / "e", slow))

    class Impatient(Log):
        def isCanceled(self) -> bool:
            return any("MALICE engine" in text for text in self.texts)

    given = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "REPORT": str(tmp_path / "r.html"), "TABLE": "memory:"}
    with pytest.raises(QgsProcessingException, match="cancelled"):
        run(provider, context, given, Impatient())
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_from_a_shell(shell: Shell, scene: Path, tmp_path: Path) -> None:
    given = (f"FOLDER_S2={scene / 'S2'}", "MODEL=tiny", f"REPORT={tmp_path / 'r.html'}", f"TABLE={tmp_path / 't.csv'}")
    done = shell("run", "malice:inspect", "--", *given)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").count("\n") == 5
    wrong = shell("run", "malice:inspect", "--", f"FOLDER_S2={scene / 'S2'}", "MODEL=tiny", f"REPORT={tmp_path / 'r'}")
    assert wrong.returncode == 1
    assert "ends in .html" in one_line(wrong.stderr)


def test_in_a_model_its_table_goes_on(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    """A .model3: the dates of a folder, and of them those that are used."""
    model = QgsProcessingModelAlgorithm("dates", "tests")
    images = QgsProcessingParameterFile("images", "images", behavior=QgsProcessingParameterFile.Behavior.Folder)
    model.addModelParameter(images, QgsProcessingModelParameter("images"))
    source = QgsProcessingModelChildParameterSource
    inspect = QgsProcessingModelChildAlgorithm("malice:inspect")
    inspect.setChildId("inspect")
    inspect.addParameterSources("FOLDER_S2", [source.fromModelParameter("images")])
    inspect.addParameterSources("MODEL", [source.fromStaticValue("tiny")])
    inspect.addParameterSources("DATE_TO", [source.fromExpression("'2018-01-' || '20'")])
    model.addChildAlgorithm(inspect)
    chosen = QgsProcessingModelChildAlgorithm("native:extractbyexpression")
    chosen.setChildId("chosen")
    chosen.addParameterSources("INPUT", [source.fromChildOutput("inspect", "TABLE")])
    chosen.addParameterSources("EXPRESSION", [source.fromStaticValue('"used" and month("date") = 1')])
    output = QgsProcessingModelOutput("dates", "dates")
    output.setChildOutputName("OUTPUT")
    chosen.setModelOutputs({"dates": output})
    model.addChildAlgorithm(chosen)
    model.updateDestinationParameters()
    assert model.toFile(str(tmp_path / "dates.model3"))
    again = QgsProcessingModelAlgorithm()
    assert again.fromFile(str(tmp_path / "dates.model3"))
    again.initAlgorithm()
    log = Log()
    _, good = again.run({"images": str(scene / "S2"), "chosen:dates": str(tmp_path / "d.gpkg")}, context, log)
    assert good, log.texts
    layer = QgsVectorLayer(str(tmp_path / "d.gpkg"), "dates", "ogr")
    assert [row["date"] for row in layer.getFeatures()] == [QDate(2018, 1, 5), QDate(2018, 1, 15)]


def test_layers_whose_day_only_qgis_knows(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    """The day of a layer's temporal range reaches the report; what was made for it is gone afterwards."""
    given = []
    for number, path in enumerate(sorted((scene / "undated").glob("*.tif"))):
        layer = QgsRasterLayer(str(path), path.stem)
        day = QDate(2018, 2, 1 + number)
        utc = Qt.TimeSpec.UTC
        span = QgsDateTimeRange(QDateTime(day, QTime(0, 0), utc), QDateTime(day, QTime(23, 59, 59), utc))
        layer.temporalProperties().setFixedTemporalRange(span)
        layer.temporalProperties().setIsActive(True)
        QgsProject.instance().addMapLayer(layer)
        given.append(layer)
    parameters = {"INPUT_S2": given, "MODEL": "tiny", "REPORT": str(tmp_path / "r.html"), "TABLE": "memory:"}
    wrapped = Path(QgsApplication.qgisSettingsDirPath()) / "malice" / "wrapped"
    # Runs of other tests that were cancelled have theirs, to be gone on with.
    before = set(wrapped.glob("*"))
    results = run(provider, context, parameters)
    rows = list(context.takeResultLayer(results["TABLE"]).getFeatures())
    assert [row["date"] for row in rows] == [QDate(2018, 2, 1 + number) for number in range(len(given))]
    assert set(wrapped.glob("*")) == before


def test_every_algorithm_is_complete(provider: object) -> None:
    """What a user sees of each: names, help of every parameter, tags, an icon; none needs the window's thread."""
    names = {algorithm.name() for algorithm in provider.algorithms()}
    assert {"embed", "inspect", "models"} <= names
    for algorithm in provider.algorithms():
        assert algorithm.name() == algorithm.name().lower()
        assert algorithm.displayName() != algorithm.name()
        assert algorithm.canExecute() == (True, "")
        assert not algorithm.flags() & algorithm.FlagNoThreading
        assert algorithm.shortDescription()
        assert algorithm.shortHelpString().startswith("<p>")
        assert not algorithm.icon().isNull()
        assert "malice" in algorithm.tags()
        assert algorithm.helpUrl().partition("#")[0].endswith(".md")
        for definition in algorithm.parameterDefinitions():
            assert definition.help(), (algorithm.name(), definition.name())
            assert definition.description(), (algorithm.name(), definition.name())
