"""The walk of someone who has never opened a terminal, in desktop QGIS: a clean profile, the zip, the set-up without a
network, a look at the images, embeddings, colours, a map of crops, and what has changed, each by its own dialog.

What the dialogs do is in ``desktop_walk.py``; the same by ``qgis_process`` is in ``test_qgis_package.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from osgeo import gdal

from helpers_qgis import OFFLINE, ROOT, S2_BANDS, pixels, untouched, wait_until, write_series
from helpers_setup import WHEELS, home, processes
from helpers_tools import drawn, samples, saved

#: Seconds the whole may take; on two cores it takes two minutes, with much else beside three.
LIMIT = 400
#: What of QGIS' log does not matter: it is not of the plugin, or is of the network that is not there.
OTHERS = ("Network", "GRASS", "SAGA", "OTB")
#: Layers by file: end of the name, how it is drawn, bands.
YEAR, EARLIER = "MALICE malice-sim S2+S1 2018-01-05 – 2018-02-04", "MALICE malice-sim S2+S1 2018-01-05 – 2018-01-25"
RASTERS = {
    "year.tif": (YEAR, "multibandcolor", 1280),
    "earlier.tif": (EARLIER, "multibandcolor", 1280),
    "colours.tif": (f"PCA – {YEAR}", "multibandcolor", 3),
    "crops.tif": (f"Classes (crop) – {YEAR}", "paletted", 1),
    "change.tif": (f"Change – {EARLIER} → {YEAR}", "singlebandpseudocolor", 3),
}

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not WHEELS, reason="MALICE_WHEELS is not set: a folder of wheels for engine.lock"),
]


@dataclass(frozen=True)
class Walk:
    """What came of it.

    Attributes:
        profile, made: folders of QGIS' profile and of what was made.
        environment: of QGIS.
        seen: what ``desktop_walk.py`` wrote.
    """

    profile: Path
    made: Path
    environment: dict[str, str]
    seen: dict[str, Any]

    def step(self, name: str) -> dict[str, Any]:
        """The first step of a name."""
        return next(one for one in self.seen["steps"] if one["name"] == name)

    def layer(self, file: str) -> dict[str, Any]:
        """The one layer of a file."""
        every = [layer for step in self.seen["steps"] for layer in step["layers"]]
        (layer,) = [one for one in every if one["source"].split("|")[0] == str(self.made / file)]
        return layer


@pytest.fixture(scope="module")
def walk(archive: Path, tmp_path_factory: pytest.TempPathFactory, qgis_app: object) -> Walk:
    desktop = ["bash", str(ROOT / "tools" / "desktop.sh")]
    there = subprocess.run(desktop, capture_output=True, text=True, check=False)
    if there.returncode:
        pytest.skip(there.stderr.strip())
    folder = tmp_path_factory.mktemp("walk")
    profile, scene, made, seen = (folder / name for name in ("a profile", "scene", "made", "seen.json"))
    for one in (scene, made, folder / "temporary"):
        one.mkdir()
    write_series(scene / "S2", 4, S2_BANDS)
    write_series(scene / "earlier", 3, S2_BANDS)
    write_series(scene / "S1", 3, ("VV", "VH"))
    saved(drawn("Polygon", samples()), scene / "labels.gpkg")
    given = {"zip": archive, "wheels": Path(WHEELS).resolve(), "scene": scene, "made": made, "seen": seen}
    settings = "[PythonPlugins]\nprocessing=true\n\n[qgis]\ncheckVersion=false\n"
    environment = {
        **untouched(profile, settings).environment,
        **OFFLINE,
        "MALICE_WALK": json.dumps({name: str(path) for name, path in given.items()}),
        "LIMIT": str(LIMIT),
        # Layers in the folder for temporary files are marked as such, and asked about.
        "TMPDIR": str(folder / "temporary"),
    }
    script = ROOT / "tests" / "qgis" / "desktop_walk.py"
    done = subprocess.run(
        [*desktop, str(script)], env=environment, capture_output=True, text=True, check=False, timeout=LIMIT + 30
    )
    assert seen.exists(), f"QGIS ended with {done.returncode}: {done.stderr[-4000:]}"
    told = json.loads(seen.read_text(encoding="utf-8"))
    assert told["problem"] == "", told["problem"] + str(told["messages"])
    assert done.returncode == 0, done.stderr[-4000:]
    return Walk(profile, made, environment, told)


def test_every_step_ends_well(walk: Walk) -> None:
    names = ["setup", "inspect", "embed", "embed", "pca", "classify", "change"]
    assert [step["name"] for step in walk.seen["steps"]] == names
    assert [step["ended"] for step in walk.seen["steps"]] == [[True]] * len(names), walk.seen["steps"][-1]["log"]
    assert walk.seen["boxes"] == []
    assert [one for one in walk.seen["messages"] if one[0] not in OTHERS] == []


def test_the_engine_is_the_one_that_was_set_up(walk: Walk) -> None:
    good, told = walk.seen["without_engine"]
    assert not good
    assert "malice:setup" in told
    assert not walk.seen["setting"]
    assert "computes on openvino (cpu), onnxruntime (cpu)" in walk.step("setup")["log"]
    assert str(home(walk.profile) / "engine" / "1") in walk.step("embed")["log"]


def test_the_dialog_proposes_a_model_that_needs_no_more_than_images(walk: Walk) -> None:
    assert walk.step("embed")["proposed"]["MODEL"] == "malice-sim"


def test_the_embedding_is_that_of_the_command_line(walk: Walk, tmp_path: Path) -> None:
    scene = walk.made.parent / "scene"
    command = [home(walk.profile) / "engine" / "1" / "bin" / "python", "-I", "-m", "malice_core.embed"]
    command += ["--s2", scene / "S2", "--s1", scene / "S1", "--model", "malice-sim", "--output", tmp_path / "e.tif"]
    subprocess.run([*map(str, command)], env=walk.environment, check=True, capture_output=True, timeout=300)
    assert pixels(walk.made / "year.tif") == pixels(tmp_path / "e.tif")
    year = gdal.Open(str(walk.made / "year.tif"))
    names = [year.GetRasterBand(number).GetDescription() for number in (1, 640, 641, 1280)]
    assert names == ["S2_Q00F00", "S2_Q09F63", "S1_Q00F00", "S1_Q09F63"]


def test_reports_and_maps_are_whole(walk: Walk) -> None:
    for report in ("images.html", "crops.html"):
        assert "<svg" in (walk.made / report).read_text(encoding="utf-8")
    assert walk.layer("dates.gpkg")["rows"] == 7
    crops = gdal.Open(str(walk.made / "crops.tif"))
    names = {code: one["name"] for code, one in json.loads(crops.GetMetadataItem("MALICE_CLASSES")).items()}
    assert set(names.values()) == {"maize", "wheat", "Wiese é"}
    # The corner without data is no class.
    assert {str(code) for code in np.unique(crops.ReadAsArray())} == {"0", *names}
    change = gdal.Open(str(walk.made / "change.tif"))
    titles = [change.GetRasterBand(number).GetDescription() for number in (1, 2, 3)]
    assert titles == ["distance", "significance", "changed"]


@pytest.mark.parametrize("file", RASTERS)
def test_results_are_layers_that_look_right(walk: Walk, file: str) -> None:
    layer = walk.layer(file)
    assert layer["valid"]
    assert (layer["name"], layer["renderer"], layer["bands"]) == RASTERS[file]
    assert layer["group"] == ("MALICE" if walk.seen["qgis"] >= 33200 else "")
    assert layer["temporal"]
    assert "Model: malice-sim" in layer["abstract"]
    if file == "year.tif":
        assert {f"query {number}" for number in range(10)} < set(layer["styles"])
    if file == "change.tif":
        assert {"changed", "significance"} < set(layer["styles"])


def test_nothing_is_left(walk: Walk) -> None:
    wait_until(lambda: not processes(str(home(walk.profile))), 2)
    assert sorted(os.listdir(walk.made)) == sorted([*RASTERS, "images.html", "crops.html", "dates.gpkg"])
    folder = walk.profile.parent
    assert [path for path in folder.rglob("*") if path.suffix in (".part", ".malice")] == []
    # Such as the shapes that were written for the engine; what is hidden is Qt's.
    temporary = (folder / "temporary").rglob("[!.]*")
    assert [path for path in temporary if path.is_file()] == []
    assert list((home(walk.profile) / "engine" / "1").glob("run-*.lock")) == []
