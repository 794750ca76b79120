"""The engine's sentences in words of dialogs: parameters for options, algorithms for commands, files as they are."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from malice_qgis.words import Words
from qgis.core import QgsProcessingContext

from helpers_qgis import Log
from helpers_tools import drawn, run, samples

#: Options that no parameter stands for: QGIS has its own way, or the engine's shell alone has them.
SHELL = {
    *("--help", "--contract", "--progress", "--cancel-on-stdin-close", "--overwrite", "--dry-run"),
    *("--s2-offset", "--max-dates", "--cloud-classes", "--s1-orbit", "--resolution", "--mask-clouds"),
    *("--runtime", "--dask", "--json", "--no-trial", "--class-weights", "--report-json"),
}
_LISTED = """
import importlib, json, sys
told = {}
for tool in sys.argv[1:]:
    actions = importlib.import_module("malice_core." + tool).parser()._actions
    told[tool] = [option for one in actions for option in one.option_strings if option.startswith("--")]
print(json.dumps(told))
"""
TOOLS = ("embed", "inspect", "pca", "similarity", "cluster", "classify", "regress", "change", "sample")


def words(provider: Any, name: str) -> Words:
    return provider.algorithm(name).create()._words()


def test_every_option_of_a_dialog_has_its_parameters_name(provider: Any, engine: str) -> None:
    done = subprocess.run([engine, "-I", "-c", _LISTED, *TOOLS], capture_output=True, text=True, check=True, timeout=60)
    for tool, options in json.loads(done.stdout).items():
        told = words(provider, tool)
        left = {option for option in options if told.of(f"give {option}, or another") == f"give {option}, or another"}
        absent = {"--output", "--counts", "--resume"} if tool == "inspect" else set()
        assert left <= SHELL | absent, tool


#: (algorithm, what the engine says, what a dialog says); the first as they stand in the engine's modules.
SAID = [
    (
        "embed",
        "model malice-sim was trained on simulated scenes, for trying out; install malice for real work: "
        "python -m malice_core.models install malice",
        "model malice-sim was trained on simulated scenes, for trying out; install malice for real work: "
        "MALICE models (malice:models), ACTION install",
    ),
    (
        "embed",
        "model x is not installed (installed: none): python -m malice_core.models install malice, or import FILE… "
        "--name x, gets one; models are looked for in /m",
        "model x is not installed (installed: none): MALICE models (malice:models), ACTION install or import, gets one"
        "; models are looked for in /m",
    ),
    (
        "inspect",
        "no model is installed: python -m malice_core.models install malice gets the published one (looked for in /m)",
        "no model is installed: MALICE models (malice:models), ACTION install gets the published one (looked for in "
        "/m)",
    ),
    (
        "models",
        "model mine exists in /m: give another --name, or --overwrite to replace it",
        "model mine exists in /m: give another NAME, or OVERWRITE to replace it",
    ),
    (
        "models",
        "try again later, or import it from disk: python -m malice_core.models import malice_s2.onnx malice_s1.onnx "
        "--name malice",
        "try again later, or import it from disk: MALICE models (malice:models), ACTION import, FILES malice_s2.onnx "
        "malice_s1.onnx, NAME malice",
    ),
    (
        "classify",
        "--classifier /c.skops predicts numbers: use python -m malice_core.regress",
        "CLASSIFIER /c.skops predicts numbers: use Regress (malice:regress)",
    ),
    (
        "regress",
        "--classifier /c.skops holds os.system, which is no part of a classifier: it is refused; use files of "
        "malice_core.classify and malice_core.regress only",
        "CLASSIFIER /c.skops holds os.system, which is no part of a classifier: it is refused; use files of "
        "Classify (malice:classify) and Regress (malice:regress) only",
    ),
    (
        "classify",
        "fold 2 leaves one class to train on: give fewer --folds, a smaller --fold-size, or label more",
        "fold 2 leaves one class to train on: give fewer FOLDS, a smaller FOLD_SIZE, or label more",
    ),
    (
        "classify",
        "this needs scikit-learn (No module named 'sklearn'): pip install 'malice-core[analysis]'",
        "this needs scikit-learn (No module named 'sklearn'): MALICE set-up (malice:setup), ACTION repair",
    ),
    (
        "pca",
        "argument --components: '0' is not a whole number, 1 to 1048576; python -m malice_core.pca --help lists the "
        "options",
        "argument COMPONENTS: '0' is not a whole number, 1 to 1048576",
    ),
    (
        "cluster",
        "--fit /f.json is damaged: no json; write it again with --save-fit",
        "FIT /f.json is damaged: no json; write it again with SAVE_FIT",
    ),
    (
        "cluster",
        "out of memory; give a smaller --memory (or --block, where there is one)",
        "out of memory; give a smaller MEMORY",
    ),
    (
        "embed",
        "cannot write /e.tif: full; free space or choose another --output, then run again with --resume",
        "cannot write /e.tif: full; free space or choose another OUTPUT, then run again with RESUME",
    ),
    (
        "embed",
        "/o has 1.00 GB free, the run needs up to 2.00 GB: free space, or take --dtype int8, fewer --queries or a "
        "smaller --aoi",
        "/o has 1.00 GB free, the run needs up to 2.00 GB: free space, or take DTYPE int8, fewer QUERIES or a "
        "smaller EXTENT",
    ),
    (
        "embed",
        "the scales of --dtype int8 go to /e_scale.tif, which was not written by embed: give --output another name",
        "the scales of DTYPE int8 go to /e_scale.tif, which was not written by embed: give OUTPUT another name",
    ),
    (
        "embed",
        "--memory 0.1 GB is too little: blocks of 8 pixels with 60 dates need 0.20 GB; give more, or fewer dates with "
        "--max-dates",
        "MEMORY 0.1 GB is too little: blocks of 8 pixels with 60 dates need 0.20 GB; give more, or fewer dates with "
        "DATE_FROM/DATE_TO",
    ),
    (
        "embed",
        "S1: 80 dates, the networks were trained on at most 60; consider --s1-orbit or --max-dates",
        "S1: 80 dates, the networks were trained on at most 60; consider images of one orbit, or fewer dates",
    ),
    (
        "embed",
        "S2: 80 dates, the networks were trained on at most 60; consider --max-cloud or --max-dates",
        "S2: 80 dates, the networks were trained on at most 60; consider a smaller MAX_CLOUD, or fewer dates",
    ),
    (
        "embed",
        "the networks were trained on ascending ones: choose one orbit with --s1-orbit",
        "the networks were trained on ascending ones: give images of one orbit",
    ),
    (
        "inspect",
        "04.00 seems to be in the data; if so, give --s2-offset -1000",
        "04.00 seems to be in the data; if so, give --s2-offset -1000 to the engine in a terminal",
    ),
    (
        "inspect",
        "a run, which counts all pixels, may decide otherwise; --exact counts them here too",
        "a run, which counts all pixels, may decide otherwise; EXACT counts them here too",
    ),
    (
        "embed",
        "no weather of 2018-01-04: complete it, or choose --weather-gaps nearest or drop-date",
        "no weather of 2018-01-04: complete it, or choose WEATHER_GAPS nearest or drop-date",
    ),
    (
        "embed",
        "--s2-angles without S2 images: give --s2 too, or drop them",
        "ANGLES_S2 without S2 images: give INPUT_S2/FOLDER_S2 too, or drop them",
    ),
]


@pytest.mark.parametrize(("name", "said", "told"), SAID, ids=range(len(SAID)))
def test_sentences_of_the_engine(provider: Any, name: str, said: str, told: str) -> None:
    assert words(provider, name).of(said) == told


def test_names_of_files_are_left_alone(provider: Any) -> None:
    told = words(provider, "embed")
    for path in (
        "/data/--dem/x.tif",
        "/data/x --dem.tif",
        "/data/a--s2.tif",
        "C:\\x\\ --s2\\y.tif",
        "/opt/python -m malice_core.embed/x.tif",
        "/opt/malice_core.embed.tif",
        "/opt/malice_core.classify/x.tif",
        "--s2=3",
    ):
        assert told.of(f"{path}: cannot be read; drop --dem") == f"{path}: cannot be read; drop DEM"
    # What no rule tells from a sentence is known, where the run was given it.
    odd = "/data/my --s2 images/of --dem 2018.tif"
    said = f"{odd}: no --dem; of --dem 2018.tif (--scl)"
    assert told.of(said, ["x", odd, "of --dem 2018.tif"]) == f"{odd}: no DEM; of --dem 2018.tif (SCL/FOLDER_SCL)"
    # Without a provider, and in pages.
    assert Words(["DEM"]).of("<b>--dem</b> malice_core.pca") == "<b>DEM</b> malice_core.pca"
    assert Words().of("python -m malice_core.models install malice") == "malice:models, ACTION install"


def test_a_run_is_told_of_in_these_words(
    provider: Any, context: QgsProcessingContext, scene: Path, years: Path, tmp_path: Path
) -> None:
    """Errors, warnings and the plan of true runs; folders with odd names are named as they are."""
    saved = str(tmp_path / "c.skops")
    labels = drawn("Polygon", samples())
    given = {"INPUT": str(years / "before.tif"), "OUTPUT": str(tmp_path / "o.tif")}
    learned = {**given, "LABELS": labels, "FIELD": "crop", "METHOD": "knn", "FOLDS": 0}
    run(provider, context, "classify", **learned, SAVE_CLASSIFIER=saved)
    log = Log()
    assert not provider.algorithm("regress").run({**given, "CLASSIFIER": saved}, context, log)[1]
    assert log.errors == [f"CLASSIFIER {saved} predicts classes: use Classify (malice:classify)"]

    folder = tmp_path / "my --s2 images"
    os.symlink(scene / "S2", folder)
    log = Log()
    images = {"FOLDER_S2": str(folder), "MODEL": "malice-sim", "QUERIES": "0", "DATE_FROM": "2018-01-10"}
    plan = tmp_path / "p.html"
    _, good = provider.algorithm("embed").run(
        {**images, "OUTPUT": str(tmp_path / "e.tif"), "PLAN": str(plan)}, context, log
    )
    assert good, log.errors
    assert any(line.endswith("real work: MALICE models (malice:models), ACTION install") for line in log.warnings)
    assert "left out by DATE_FROM/DATE_TO" in plan.read_text(encoding="utf-8")
    log = Log()
    wrong = {**images, "EXTENT": "0,100,0,100 [EPSG:32631]", "OUTPUT": str(tmp_path / "f.tif")}
    assert not provider.algorithm("embed").run(wrong, context, log)[1]
    assert log.errors[0].endswith("choose another EXTENT, or check the CRS of EXTENT")
    (tmp_path / "of --dem").mkdir()
    empty = {**images, "FOLDER_S2": str(tmp_path / "of --dem"), "OUTPUT": str(tmp_path / "g.tif")}
    log = Log()
    assert not provider.algorithm("embed").run(empty, context, log)[1]
    assert str(tmp_path / "of --dem") in log.errors[0]
