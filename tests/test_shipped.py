"""The model that ships: there for everyone, told for what it is, and better than what training began with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers_embed import run

from malice_core import cards, models, simulate

NAME = "malice-sim"


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


def test_it_is_the_default_where_nothing_is_installed_and_says_what_it_is(nothing_installed: dict[str, str]) -> None:
    card = models.default()
    assert (card.name, card.tags, sorted(card.modalities)) == (NAME, (cards.DEMO,), ["s1", "s2"])
    assert "simulated" in models.caution(card)
    assert {"curve", "probe_s2", "probe_s1"} <= card.provenance.keys()
    size = sum(path.stat().st_size for path in card.folder.iterdir()) if card.folder else 0
    assert 1e6 < size < 8e6


def test_all_runtimes_agree_on_it(nothing_installed: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    from malice_core.models import main

    assert main(["verify", NAME]) == 0
    assert NAME in capsys.readouterr().out


def test_a_real_model_takes_its_place(store: Path, nothing_installed: dict[str, str], monkeypatch: Any) -> None:
    monkeypatch.setenv("MALICE_MODELS", str(store))
    assert models.default().name == "tiny"


def test_the_shell_uses_it_with_a_word(scene: Path, nothing_installed: dict[str, str], tmp_path: Path) -> None:
    found = run("--s2", scene / "S2", "--s1", scene / "S1", "--output", tmp_path / "e.tif", "--max-dates", 6)
    assert any("trained on simulated scenes" in warning for warning in found.warnings)
    with rasterio.open(tmp_path / "e.tif") as source:
        assert (source.count, source.tags()["MALICE_MODEL"]) == (1280, NAME)
        assert np.isfinite(source.read(masked=True).compressed()).all()


def test_it_knows_more_than_random_weights(store: Path, scene: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Land cover of unseen simulated fields by their nearest neighbours, either sensor."""
    monkeypatch.setenv("MALICE_MODELS", str(store))
    for sensor, folder in (("s2", "S2"), ("s1", "S1")):
        for name in (NAME, "tiny"):
            run(f"--{sensor}", scene / folder, "--model", name, "--output", tmp_path / f"{name}.tif", "--overwrite")
        command = [sys.executable, "-m", "malice_core.evaluate", f"{tmp_path / NAME}.tif", f"{tmp_path / 'tiny'}.tif"]
        given = ["--labels", f"{scene / 'labels.tif'}", "--json", "--folds", "2", "--repeats", "1"]
        done = subprocess.run([*command, *given], capture_output=True, text=True, check=True)
        scores = json.loads(done.stdout)["sets"]
        better = scores[NAME]["neighbours"]["mean"] - scores["tiny"]["neighbours"]["mean"]
        assert better > 0.03, (sensor, scores)
