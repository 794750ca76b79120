"""Tools one after the other: in the model designer, run as a file, and in batch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from osgeo import gdal
from qgis.core import (
    QgsProcessing,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtCore import QCoreApplication

from helpers_qgis import Shell, command_line, pixels
from helpers_tools import drawn, engine_run, samples, saved

SOURCE = QgsProcessingModelChildParameterSource


def child(
    model: QgsProcessingModelAlgorithm,
    tool: str,
    sources: dict[str, QgsProcessingModelChildParameterSource],
    outputs: dict[str, str],
) -> None:
    """Adds a step; ``outputs``: names of the model's outputs by parameter."""
    step = QgsProcessingModelChildAlgorithm(f"malice:{tool}")
    step.setChildId(tool)
    for name, source in sources.items():
        step.addParameterSources(name, [source])
    made = {}
    for parameter, name in outputs.items():
        output = QgsProcessingModelOutput(name, name)
        output.setChildOutputName(parameter)
        made[name] = output
    step.setModelOutputs(made)
    model.addChildAlgorithm(step)


def test_embed_pca_classify_as_a_model(
    provider: object, shell: Shell, scene: Path, tmp_path: Path, engine_python: str
) -> None:
    """Made as the designer does, saved, run by qgis_process: images and labels in; picture, map and report out."""
    model = QgsProcessingModelAlgorithm("crop map", "tests")
    polygon = QgsProcessing.SourceType.TypeVectorPolygon
    for parameter in (
        QgsProcessingParameterFile("images", "images", behavior=QgsProcessingParameterFile.Behavior.Folder),
        QgsProcessingParameterString("queries", "queries"),
        QgsProcessingParameterFeatureSource("labels", "labels", [polygon]),
        QgsProcessingParameterField("field", "field", None, "labels"),
    ):
        model.addModelParameter(parameter, QgsProcessingModelParameter(parameter.name()))
    own, value, result = SOURCE.fromModelParameter, SOURCE.fromStaticValue, SOURCE.fromChildOutput
    child(model, "embed", {"FOLDER_S2": own("images"), "MODEL": value("tiny"), "QUERIES": own("queries")}, {})
    # The fit of the first picture is the input of a second, so that files go from step to step as well.
    child(model, "pca", {"INPUT": result("embed", "OUTPUT")}, {"OUTPUT": "picture", "SAVE_FIT": "fit"})
    again = QgsProcessingModelChildAlgorithm("malice:pca")
    again.setChildId("again")
    again.addParameterSources("INPUT", [result("embed", "OUTPUT")])
    again.addParameterSources("FIT", [result("pca", "SAVE_FIT")])
    output = QgsProcessingModelOutput("second", "second")
    output.setChildOutputName("OUTPUT")
    again.setModelOutputs({"second": output})
    model.addChildAlgorithm(again)
    learned = {
        "INPUT": result("embed", "OUTPUT"),
        "LABELS": own("labels"),
        "FIELD": own("field"),
        "METHOD": value("knn"),
        "FOLDS": value(2),
        "FOLD_SIZE": value(100),
    }
    child(model, "classify", learned, {"OUTPUT": "crops", "REPORT": "report"})
    model.updateDestinationParameters()
    assert model.toFile(str(tmp_path / "crops.model3"))

    labels = saved(drawn("Polygon", samples()), tmp_path / "labels.gpkg")
    # Outputs were named after their step too (pca:picture), before QGIS took their own names.
    names = {one.name().split(":")[-1]: one.name() for one in model.destinationParameterDefinitions()}
    files = {"picture": "picture.tif", "fit": "f.json", "second": "second.tif", "crops": "crops.tif"}
    files["report"] = "report.html"
    done = shell(
        *("--json", "run", tmp_path / "crops.model3", "--", f"images={scene / 'S2'}", "queries=0"),
        *(f"labels={labels}", "field=crop", *(f"{names[name]}={tmp_path / file}" for name, file in files.items())),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout[done.stdout.index("{") :])["results"]
    assert results[names["crops"]] == str(tmp_path / "crops.tif")
    embedding = tmp_path / "s.tif"
    command_line(engine_python, scene, "--s2", scene / "S2", "--queries", "0", "--output", embedding)
    engine_run(engine_python, "pca", "--input", embedding, "--output", tmp_path / "sp.tif")
    options = ("--labels", labels, "--field", "crop", "--method", "knn", "--folds", 2, "--fold-size", 100)
    engine_run(engine_python, "classify", "--input", embedding, *options, "--output", tmp_path / "sc.tif")
    assert pixels(tmp_path / "picture.tif") == pixels(tmp_path / "sp.tif")
    assert pixels(tmp_path / "second.tif") == pixels(tmp_path / "sp.tif")
    assert pixels(tmp_path / "crops.tif") == pixels(tmp_path / "sc.tif")
    assert "wheat" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_tool_alone_in_qgis_process(shell: Shell, years: Path, tmp_path: Path) -> None:
    """Optional outputs are not there unless asked for; an unknown tool of the engine's is no tool of the provider's."""
    done = shell("--json", "run", "malice:pca", "--", f"INPUT={years / 'before.tif'}", f"OUTPUT={tmp_path / 'p.tif'}")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout[done.stdout.index("{") :])["results"]
    assert results == {"OUTPUT": str(tmp_path / "p.tif")}
    assert [path.name for path in tmp_path.iterdir()] == ["p.tif"]
    helped = shell("help", "malice:pca").stdout
    assert "Principal components (PCA)" in helped
    assert "2GB" in helped


def test_rows_of_a_batch_are_runs_of_their_own(
    provider: Any, years: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window of batch processing, filled from a file and run as its button does; empty cells are what they were."""
    from processing.gui.BatchAlgorithmDialog import BatchAlgorithmDialog

    dialog = BatchAlgorithmDialog(provider.algorithm("pca").create(), None)
    panel = dialog.mainWidget()
    panel.checkLoadLayersOnCompletion.setChecked(False)
    # Up to 3.34 cells are Python, later they are values; the old kind makes the window ask, and wait for an answer.
    plain = hasattr(panel, "CURRENT_FORMAT")
    rows: Any = [
        {
            "PARAMETERS": {"INPUT": path if plain else repr(path), "COMPONENTS": count if plain else f"{count}"},
            "OUTPUTS": {"OUTPUT": str(tmp_path / f"{name}.tif")},
        }
        for path, name, count in ((f"{years / 'before'}.tif", "before", 2), (f"{years / 'after'}.tif", "after", 3))
    ]
    if plain:
        rows = {panel.FORMAT: panel.CURRENT_FORMAT, panel.ROWS: rows}
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    monkeypatch.setattr(
        "processing.gui.BatchPanel.QFileDialog.getOpenFileName", lambda *_: (str(tmp_path / "rows.json"), "")
    )
    panel.load()
    assert panel.batchRowCount() == 2
    dialog.runAlgorithm()
    # Rows run beside the window in newer QGIS.
    end = time.monotonic() + 120
    while dialog.cancelButton().isEnabled() and time.monotonic() < end:
        QCoreApplication.processEvents()
        time.sleep(0.05)
    dialog.close()
    for name, count in (("before", 2), ("after", 3)):
        assert gdal.Open(str(tmp_path / f"{name}.tif")).RasterCount == count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after.tif", "before.tif", "rows.json"]
