"""The models that ship: there for everyone, told for what they are, and better than what training began with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers_aux import around
from helpers_embed import run
from helpers_models import write_random_model

from malice_core import cards, models, simulate

NAME, AUXILIARY = "malice-sim", "malice-aux-sim"


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """As on a machine on which nobody has installed a model; also as an environment."""
    environment = {"XDG_DATA_HOME": f"{tmp_path / 'data'}", "HOME": f"{tmp_path}", "MALICE_MODELS": ""}
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    return environment


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fields that no training has seen."""
    folder = tmp_path_factory.mktemp("unseen") / "scene"
    simulate.write(simulate.Spec(height=64, width=64, s2_dates=12, s1_dates=12, seed=987_654), folder)
    return folder


@pytest.mark.parametrize("name", [NAME, AUXILIARY])
def test_the_card_says_what_it_is(nothing_installed: dict[str, str], name: str) -> None:
    card = models.load(name)
    assert (card.tags, sorted(card.modalities)) == ((cards.DEMO,), ["s1", "s2"])
    assert (card.surroundings is not None) == (name == AUXILIARY)
    assert "simulated" in models.caution(card)
    assert {"curve", "probe_s2", "probe_s1"} <= card.provenance.keys()
    size = sum(path.stat().st_size for path in card.folder.iterdir()) if card.folder else 0
    assert 1e6 < size < 8e6


def test_the_default_where_nothing_is_installed_needs_no_more_than_images(nothing_installed: dict[str, str]) -> None:
    assert models.default().name == NAME


@pytest.mark.parametrize("name", [NAME, AUXILIARY])
def test_all_runtimes_agree_on_it(
    nothing_installed: dict[str, str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    from malice_core.models import main

    assert main(["verify", name]) == 0
    assert name in capsys.readouterr().out


def test_a_real_model_takes_its_place(store: Path, nothing_installed: dict[str, str], monkeypatch: Any) -> None:
    monkeypatch.setenv("MALICE_MODELS", str(store))
    assert models.default().name == "tiny"


def test_the_shell_uses_it_with_a_word(scene: Path, nothing_installed: dict[str, str], tmp_path: Path) -> None:
    found = run("--s2", scene / "S2", "--s1", scene / "S1", "--output", tmp_path / "e.tif", "--max-dates", 6)
    assert any("trained on simulated scenes" in warning for warning in found.warnings)
    with rasterio.open(tmp_path / "e.tif") as source:
        assert (source.count, source.tags()["MALICE_MODEL"]) == (1280, NAME)
        assert np.isfinite(source.read(masked=True).compressed()).all()


@pytest.mark.acceptance
@pytest.mark.parametrize("name", [NAME, AUXILIARY])
def test_it_knows_more_than_random_weights(
    store: Path, scene: Path, tmp_path: Path, monkeypatch: Any, name: str
) -> None:
    """Land cover of unseen simulated fields by their nearest neighbours, either sensor."""
    monkeypatch.setenv("MALICE_MODELS", str(store))
    auxiliary, other = name == AUXILIARY, f"random-{name}"
    write_random_model(store, other, auxiliary=auxiliary)
    for sensor, folder in (("s2", "S2"), ("s1", "S1")):
        more = around(scene, sensor) if auxiliary else []
        for one in (name, other):
            run(
                f"--{sensor}", scene / folder, *more, "--model", one, "--output", tmp_path / f"{one}.tif", "--overwrite"
            )
        command = [sys.executable, "-m", "malice_core.evaluate", f"{tmp_path / name}.tif", f"{tmp_path / other}.tif"]
        given = ["--labels", f"{scene / 'labels.tif'}", "--json", "--folds", "2", "--repeats", "1"]
        done = subprocess.run([*command, *given], capture_output=True, text=True, check=True)
        scores = json.loads(done.stdout)["sets"]
        better = scores[name]["neighbours"]["mean"] - scores[other]["neighbours"]["mean"]
        assert better > 0.03, (sensor, scores)


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_weather_terrain_and_angles_matter_to_malice_aux(
    nothing_installed: dict[str, str], scene: Path, tmp_path: Path, sensor: str
) -> None:
    def embedded(name: str, *options: object) -> np.ndarray:
        given = (f"--{sensor}", scene / sensor.upper(), *options, "--model", AUXILIARY, "--max-dates", 6)
        run(*given, "--output", tmp_path / f"{name}.tif")
        with rasterio.open(tmp_path / f"{name}.tif") as source:
            return source.read()

    true = around(scene, sensor)
    first = embedded("first", *true)
    lines = (scene / "AGERA5.csv").read_text().splitlines()
    days = [line.split(",", 1) for line in lines[1:]]
    order = np.random.default_rng(0).permutation(len(days))
    dealt = [f"{day},{days[other][1]}" for (day, _), other in zip(days, order, strict=True)]
    (tmp_path / "weather.csv").write_text("\n".join([lines[0], *dealt]) + "\n")
    with rasterio.open(scene / "DEM.tif") as source:
        profile, elevation = source.profile, source.read()
    with rasterio.open(tmp_path / "flat_dem.tif", "w", **profile) as target:
        target.write(np.full_like(elevation, elevation.mean()))
    others = {
        "shuffled": [f"{tmp_path / 'weather.csv'}" if "AGERA5" in text else text for text in true],
        "flat": [f"{tmp_path / 'flat_dem.tif'}" if "DEM" in text else text for text in true],
        "median": [*true[: true.index(f"--{sensor}-angles")], "--angles", "median"],
    }
    for name, options in others.items():
        # Values have a standard deviation of about 1.
        assert np.abs(embedded(name, *options) - first).mean() > 0.01, name
