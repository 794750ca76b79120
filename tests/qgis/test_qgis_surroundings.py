"""Weather, DEM and angles of MALICE Aux: what reaches the engine, and what is refused.

A recorder stands in for the engine: it lists models as the true one does, and writes down what it is told to compute.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from malice_qgis import models
from malice_qgis.algorithms.parameters import SURROUNDINGS
from osgeo import gdal
from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProject,
    QgsProperty,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QVariant

from helpers_qgis import ROOT, Log, Shell, fake_engine, one_line

#: AgERA5 by the names of its columns, and plausible values.
WEATHER = {
    "dewpoint_temperature [K]": 275.0,
    "precipitation_flux [mm d-1]": 3.0,
    "solar_radiation_flux [J m-2 d-1]": 4e6,
    "temperature_max [K]": 281.0,
    "temperature_mean [K]": 278.0,
    "temperature_min [K]": 275.5,
    "vapour_pressure [hPa]": 7.0,
    "wind_speed [m s-1]": 4.0,
}
FILES = {"WEATHER": "weather", "DEM": "dem.tif", "ANGLES_S2": "s2.csv", "ANGLES_S1": "s1.csv", "OUTPUT": "e.tif"}
PLAN = "# rule       weather: 367 days, 2017-12-31 to 2019-01-01, without a gap"
RECORDER = """case "$*" in
*--contract*) echo '{{"contract": 1, "version": "9.9"}}';;
*malice_core.models*) exec '{engine}' "$@";;
*) printf '%s\\n' "$@" >'{told}'
   echo '{{"event": "plan", "plan": {{}}, "text": "{plan}"}}'
   echo '{{"event": "error", "code": 2, "message": "recorded"}}'
   exit 2;;
esac
"""


@dataclass
class Place:
    """Files of a place, and the recorder's."""

    folder: Path
    told: Path

    def __truediv__(self, name: str) -> str:
        return str(self.folder / name)

    def options(self) -> dict[str, list[str]]:
        """What the engine was told, by option."""
        found: dict[str, list[str]] = {}
        words = self.told.read_text(encoding="utf-8").splitlines()
        for word in words[words.index("malice_core.embed") + 1 :]:
            if word.startswith("--"):
                option = word
                found[option] = []
            else:
                found[option].append(word)
        return found

    def around(self) -> dict[str, list[str]]:
        """Of :meth:`options` those of weather, DEM and angles."""
        ours = {*SURROUNDINGS.values(), "--weather-gaps", "--dem-nodata", "--angles"}
        return {option: values for option, values in self.options().items() if option in ours}


@pytest.fixture
def place(provider: object, scene: Path, tmp_path: Path, engine_python: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The recorder as engine, with the models ``tiny`` and ``aux``; files with weather, terrain and angles."""
    for name in ("bin", "store", "weather", "S1"):
        (tmp_path / name).mkdir()
    (tmp_path / "store" / "tiny").symlink_to(scene / "models" / "tiny")
    (tmp_path / "store" / "aux").symlink_to(scene / "more" / "aux")
    # A terrain has no date.
    gdal.Translate(str(tmp_path / "dem.tif"), str(scene / "S1" / "S1_20180105.tif"), bandList=[1])
    for day in ("20171231", "20180101"):
        shutil.copy(tmp_path / "dem.tif", tmp_path / "weather" / f"AgERA5_{day}.tif")
    for name in ("weather.csv", "s2.csv", "s1.csv", "weather.nc"):
        (tmp_path / name).write_text("date\n2018-01-05\n", encoding="utf-8")
    told = tmp_path / "told.txt"
    body = RECORDER.format(engine=engine_python, told=told, plan=PLAN)
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", fake_engine(tmp_path / "bin", body))
    monkeypatch.setenv("MALICE_MODELS", str(tmp_path / "store"))
    return Place(tmp_path, told)


def run(provider: object, context: QgsProcessingContext, parameters: dict[str, object]) -> Log:
    """Runs up to the recorder's refusal; returns the log."""
    log = Log()
    with pytest.raises(QgsProcessingException, match="recorded"):
        provider.algorithm("embed").run(parameters, context, log, {}, False)
    return log


def given(place: Place, scene: Path, **more: object) -> dict[str, object]:
    """Both sensors and all that ``aux`` wants; None takes something away."""
    whole = {name: place / file for name, file in FILES.items()}
    images = {"FOLDER_S2": str(scene / "S2"), "FOLDER_S1": str(scene / "S1")}
    return {name: value for name, value in {"MODEL": "aux", **images, **whole, **more}.items() if value is not None}


def test_all_of_it_reaches_the_engine(
    provider: object, context: QgsProcessingContext, place: Place, scene: Path
) -> None:
    parameters = given(place, scene)
    assert provider.algorithm("embed").create().checkParameterValues(parameters, context) == (True, "")
    log = run(provider, context, parameters)
    assert place.around() == {
        "--weather": [place / "weather"],
        "--dem": [place / "dem.tif"],
        "--s2-angles": [place / "s2.csv"],
        "--s1-angles": [place / "s1.csv"],
    }
    # Days and units that were found are rules of the plan, which is shown.
    assert any("weather: 367 days, 2017-12-31" in text for text in log.texts)
    choices = {"WEATHER_GAPS": "drop-date", "DEM_NODATA": "fill", "ANGLES": "median"}
    run(provider, context, given(place, scene, ANGLES_S2=None, FOLDER_S1=None, ANGLES_S1=None, **choices))
    assert place.around() == {
        "--weather": [place / "weather"],
        "--dem": [place / "dem.tif"],
        "--weather-gaps": ["drop-date"],
        "--dem-nodata": ["fill"],
        "--angles": ["median"],
    }


def test_values_of_every_kind(
    provider: object, context: QgsProcessingContext, place: Place, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers, lists, numbers, expressions, and paths as they are typed."""
    layer = QgsRasterLayer(place / "dem.tif", "hills")
    QgsProject.instance().addMapLayer(layer)
    days = sorted(map(str, (place.folder / "weather").iterdir()))
    monkeypatch.chdir(place.folder)
    cases: list[tuple[str, object, list[str]]] = [
        ("DEM", layer, [place / "dem.tif"]),
        ("DEM", layer.id(), [place / "dem.tif"]),
        ("DEM", "hills", [place / "dem.tif"]),
        ("DEM", "dem.tif", [place / "dem.tif"]),
        ("DEM", "/vsicurl/http://127.0.0.1:9/dem.tif", ["/vsicurl/http://127.0.0.1:9/dem.tif"]),
        ("WEATHER", days, days),
        ("WEATHER", [place / "weather.csv"], [place / "weather.csv"]),
        ("WEATHER", f"  {place / 'weather.nc'} ", [place / "weather.nc"]),
        ("WEATHER", [[place / "weather"], "", place / "weather.csv"], [place / "weather", place / "weather.csv"]),
        ("WEATHER", f'"{days[0]}" "{days[1]}"', days),
        ("WEATHER", f'"{days[0]}"', days[:1]),
        ("WEATHER", QgsProperty.fromExpression(f"'{place.folder}' || '/weather'"), [place / "weather"]),
        ("ANGLES_S2", place / "S1", [place / "S1"]),
        ("ANGLES_S2", ["s2.csv", place / "S1"], [place / "s2.csv", place / "S1"]),
        ("ANGLES_S1", 38.5, ["38.5"]),
        ("ANGLES_S1", 38, ["38"]),
        ("ANGLES_S1", " 38.5 ", ["38.5"]),
        ("ANGLES_S1", QgsProperty.fromExpression("77 / 2"), ["38.5"]),
        ("ANGLES_S1", "161=39.1", ["161=39.1"]),
        ("ANGLES_S1", "161 = 39.1, 88:35", ["161=39.1", "88:35"]),
        ("ANGLES_S1", ["s1.csv", "161=39.1"], [place / "s1.csv", "161=39.1"]),
    ]
    for name, value, wanted in cases:
        run(provider, context, given(place, scene, **{name: value}))
        assert place.options()[SURROUNDINGS[name]] == wanted, (name, value)
    # A file of such a name is a file.
    (place.folder / "38.5").write_text("date,incidence_angle\n", encoding="utf-8")
    run(provider, context, given(place, scene, ANGLES_S1="38.5"))
    assert place.options()["--s1-angles"] == [place / "38.5"]


def test_years_of_daily_files_go_in_a_list(
    provider: object, context: QgsProcessingContext, place: Place, scene: Path
) -> None:
    days = []
    for number in range(800):
        days.append(place / f"weather/Temperature_Air_2m_Mean_24h_{number}.tif")
        os.link(place / "dem.tif", days[-1])
    run(provider, context, given(place, scene, WEATHER=days))
    (listed,) = place.options()["--weather"]
    assert Path(listed).read_text(encoding="utf-8").splitlines() == days


def test_models_that_see_images_alone_are_called_as_before(
    provider: object, context: QgsProcessingContext, place: Place, scene: Path
) -> None:
    """Also with what a dialog leaves at its defaults."""
    base = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "OUTPUT": place / "e.tif"}
    empty = {name: QVariant() for name in SURROUNDINGS}
    defaults = {"WEATHER_GAPS": "error", "DEM_NODATA": "error", "ANGLES": "error"}
    run(provider, context, base)
    before = place.options()
    assert before["--s2"] == [str(scene / "S2")]
    assert place.around() == {}
    run(provider, context, {**base, **empty, **defaults})
    assert place.options() == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"WEATHER": None}, "MODEL aux needs weather, DEM and angles besides images: give WEATHER."),
        ({"DEM": None, "WEATHER": "  "}, "give WEATHER, DEM."),
        ({"DEM": QVariant(), "ANGLES": "median", "ANGLES_S2": None}, "besides images: give DEM."),
        ({"ANGLES_S1": None}, "give ANGLES_S1 (or set ANGLES to median, for want of angles)."),
        ({"ANGLES_S1": None, "ANGLES_S2": ""}, "give ANGLES_S2, ANGLES_S1 (or set"),
        ({"FOLDER_S1": None}, "ANGLES_S1 belongs to Sentinel-1 images: give those too, or leave it out."),
        ({"FOLDER_S2": None}, "ANGLES_S2 belongs to Sentinel-2 images"),
        ({"MODEL": "tiny"}, "MODEL tiny sees images alone: leave out WEATHER, DEM, ANGLES_S2, ANGLES_S1, or choose"),
        (
            {**dict.fromkeys(SURROUNDINGS), "MODEL": "tiny", "DEM_NODATA": "fill", "ANGLES": "median"},
            "MODEL tiny sees images alone: leave out DEM_NODATA, ANGLES, or choose a model of MALICE Aux.",
        ),
        ({"WEATHER": "/nowhere/AgERA5"}, "WEATHER: there is no /nowhere/AgERA5; check the path"),
        ({"WEATHER": ["{folder}/weather.csv", "{folder}/gone.nc"]}, "WEATHER: there is no {folder}/gone.nc"),
        ({"DEM": "/nowhere/dem.tif"}, "DEM: there is no /nowhere/dem.tif"),
        ({"DEM": "{folder}/s2.csv"}, "DEM: {folder}/s2.csv is no raster"),
        ({"DEM": "{folder}/weather"}, "DEM: {folder}/weather is no raster that GDAL opens"),
        ({"DEM": ["{folder}/dem.tif", "{folder}/weather/AgERA5_20171231.tif"]}, "DEM: 2 rasters are given"),
        ({"ANGLES_S2": "/nowhere/s2.csv"}, "ANGLES_S2: there is no /nowhere/s2.csv; check the path"),
        ({"ANGLES_S2": "38.5"}, "ANGLES_S2: there is no 38.5"),
        ({"ANGLES_S1": "steep"}, "there is no steep; check the path, or choose another file or folder, or a number of"),
        ({"ANGLES_S1": "38,5 degrees"}, "ANGLES_S1: there is no 38,5 degrees"),
        ({"WEATHER_GAPS": "skip"}, "WEATHER_GAPS 'skip' is none of error, nearest, drop-date."),
        ({"DEM_NODATA": "mean"}, "DEM_NODATA 'mean' is none of error, fill."),
        ({"ANGLES": "mean"}, "ANGLES 'mean' is none of error, median."),
        ({"OUTPUT": "{folder}/dem.tif"}, "OUTPUT {folder}/dem.tif is one of the inputs"),
        ({"OUTPUT": "{folder}/weather.csv", "WEATHER": ["{folder}/weather.csv"]}, "weather.csv is one of the inputs"),
    ],
)
def test_what_is_wrong_is_one_line(
    provider: object,
    context: QgsProcessingContext,
    place: Place,
    scene: Path,
    change: dict[str, object],
    says: str,
) -> None:
    def here(value: object) -> object:
        if isinstance(value, list):
            return [here(one) for one in value]
        return value.format(folder=place.folder) if isinstance(value, str) else value

    parameters = given(place, scene, **{name: here(value) for name, value in change.items()})
    good, text = provider.algorithm("embed").create().checkParameterValues(parameters, context)
    assert not good
    assert says.format(folder=place.folder) in text
    assert "\n" not in text
    # Models run their steps without that check.
    log = QgsProcessingFeedback(False)
    assert not provider.algorithm("embed").run(parameters, context, log)[1]
    assert says.format(folder=place.folder) in log.textLog()
    assert not place.told.exists()


def test_layers_that_are_no_local_raster(
    provider: object, context: QgsProcessingContext, place: Place, scene: Path
) -> None:
    (place.folder / "lines.geojson").write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": '
        '{"type": "Point", "coordinates": [3, 50]}}]}'
    )
    tiles = QgsRasterLayer("type=xyz&url=http://127.0.0.1:9/{z}/{x}/{y}.png", "relief of the web", "wms")
    vector = QgsVectorLayer(place / "lines.geojson", "contours")
    assert vector.isValid()
    for value, says in (
        (tiles, "Layer 'relief of the web' (wms) can be read by QGIS only: export it"),
        (vector, "Layer 'contours' is no raster layer"),
        (place / "lines.geojson", "lines.geojson is no raster but vector data"),
    ):
        good, text = provider.algorithm("embed").create().checkParameterValues(given(place, scene, DEM=value), context)
        assert not good
        assert says in text


def test_a_model_nobody_knows_is_the_engines_to_refuse(
    provider: object, context: QgsProcessingContext, place: Place, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a model that is not installed nor an engine that lists none is guessed about."""
    run(provider, context, given(place, scene, MODEL="another", WEATHER=None))
    assert place.options()["--model"] == ["another"]
    monkeypatch.setattr(models, "LIST", ("malice_core.models", "no-command"))
    monkeypatch.setattr(models.INSTALLED, "_answer", ("", 0.0, ""))
    run(provider, context, given(place, scene, WEATHER=None))
    assert "--weather" not in place.options()


def test_in_qgis_process(shell: Shell, place: Place, scene: Path) -> None:
    """Several files by repeating the parameter; a refusal in one line."""
    environment = {name: os.environ[name] for name in ("MALICE_ENGINE_PYTHON", "MALICE_MODELS")}
    days = sorted(map(str, (place.folder / "weather").iterdir()))
    images = ("MODEL=aux", f"FOLDER_S1={scene / 'S1'}", f"OUTPUT={place / 'e.tif'}")
    more = [*(f"WEATHER={day}" for day in days), f"DEM={place / 'dem.tif'}", "ANGLES_S1=38.5", "WEATHER_GAPS=nearest"]
    done = shell.embed(*images, *more, **environment)
    assert "recorded" in one_line(done.stderr), done.stderr
    assert "weather: 367 days" in done.stdout
    assert place.around() == {
        "--weather": days,
        "--dem": [place / "dem.tif"],
        "--s1-angles": ["38.5"],
        "--weather-gaps": ["nearest"],
    }
    place.told.unlink()
    done = shell.embed(*images, *more[:-2], **environment)
    assert done.returncode == 1
    assert "give ANGLES_S1 (or set ANGLES to median" in one_line(done.stderr), done.stderr
    done = shell.embed(f"FOLDER_S1={scene / 'S1'}", f"OUTPUT={place / 'e.tif'}", *more, **environment)
    assert "MODEL tiny sees images alone: leave out WEATHER, DEM, ANGLES_S1, WEATHER_GAPS" in one_line(done.stderr)
    assert not place.told.exists()


def test_notes_of_a_plan_are_in_its_text(engine_python: str, scene: Path, tmp_path: Path) -> None:
    """The plugin shows the text alone."""
    options = ("--model", "tiny", "--s2", scene / "S2", "--output", tmp_path / "e.tif", "--dry-run")
    done = subprocess.run(
        [engine_python, "-I", "-m", "malice_core.embed", *map(str, options), "--progress", "json"],
        env={**os.environ, "MALICE_MODELS": str(scene / "models")},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    events = map(json.loads, done.stdout.splitlines())
    (plan,) = [event for event in events if event["event"] == "plan"]
    assert plan["plan"]["notes"]
    for note in plan["plan"]["notes"]:
        assert note in plan["text"]


def test_a_run_of_malice_aux_is_the_shells(shell: Shell, scene: Path, tmp_path: Path, engine_python: str) -> None:
    """No recorder here: the made-up scene with weather, DEM and angles, by ``qgis_process`` and by the engine."""
    environment = {"MALICE_MODELS": str(scene / "more")}
    first, names = date(2018, 1, 1), WEATHER
    rows = [
        f"{first + timedelta(days=k)},{','.join(f'{x * (1 + 0.01 * (k % 7)):.6g}' for x in names.values())}"
        for k in range(40)
    ]
    (tmp_path / "weather.csv").write_text("\n".join([",".join(["date", *names]), *rows]) + "\n", encoding="utf-8")
    days = sorted(path.stem.split("_")[1] for path in (scene / "S2").glob("*.tif"))
    rows = [f"{day[:4]}-{day[4:6]}-{day[6:]},{60 + i},{150 + i},5,{100 + i}" for i, day in enumerate(days)]
    header = "date,sun_zenith,sun_azimuth,view_zenith,view_azimuth"
    (tmp_path / "s2.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    image = gdal.Open(str(scene / "S1" / "S1_20180105.tif"))
    dem = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "dem.tif"), 48, 40, 1, gdal.GDT_Float32)
    dem.SetGeoTransform(image.GetGeoTransform())
    dem.SetProjection(image.GetProjection())
    heights = 100 + np.add.outer(np.arange(40), np.sin(np.arange(48)))
    dem.GetRasterBand(1).WriteRaster(0, 0, 48, 40, heights.astype("f4").tobytes())
    dem.FlushCache()
    of_qgis, of_shell = tmp_path / "qgis.tif", tmp_path / "shell.tif"
    done = shell.embed(
        "MODEL=aux",
        f"FOLDER_S2={scene / 'S2'}",
        f"FOLDER_S1={scene / 'S1'}",
        f"WEATHER={tmp_path / 'weather.csv'}",
        f"DEM={tmp_path / 'dem.tif'}",
        f"ANGLES_S2={tmp_path / 's2.csv'}",
        "ANGLES_S1=38.5",
        f"OUTPUT={of_qgis}",
        **environment,
    )
    assert done.returncode == 0, done.stderr
    assert "all six days of all" in done.stdout
    given = ["--s2", scene / "S2", "--s1", scene / "S1", "--weather", tmp_path / "weather.csv", "--model", "aux"]
    given += ["--dem", tmp_path / "dem.tif", "--s2-angles", tmp_path / "s2.csv", "--s1-angles", "38.5"]
    command = [engine_python, "-m", "malice_core.embed", *map(str, given), "--output", str(of_shell)]
    subprocess.run(command, check=True, timeout=300, cwd=ROOT, env={**os.environ, **environment})
    one, other = (gdal.Open(str(path)) for path in (of_qgis, of_shell))
    assert one.RasterCount == 1280
    np.testing.assert_array_equal(one.ReadAsArray(), other.ReadAsArray())
