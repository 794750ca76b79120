"""Pre-training of MALICE Aux from the command line: configuration, runs that go on, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("zarr")

from helpers_aux import around, write_around  # noqa: E402
from helpers_dataset import built  # noqa: E402
from helpers_pretrain import (  # noqa: E402
    TINY,
    alone,
    assert_same,
    one_line,
    resume,
    small_dataset,
    small_stack,
    state,
    train,
)

from malice_core import cli, pretrain  # noqa: E402
from malice_core.store.statistics import AUX  # noqa: E402
from malice_core.training import runfolder  # noqa: E402
from malice_core.training.ablation import SHUFFLED  # noqa: E402
from malice_core.training.callbacks import read_curves  # noqa: E402
from malice_core.training.composing import compose_settings  # noqa: E402

pytestmark = pytest.mark.usefixtures("pretraining")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_around(small_stack(tmp_path_factory.mktemp("stack")))


@pytest.fixture(scope="module")
def data(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of 24 pixels, with weather, terrain and angles."""
    folder = tmp_path_factory.mktemp("data") / "d.zarr"
    return built(stack, folder, "--patch", 24, "--split", "0.6/0.3/0.1", *around(stack)).folder


@pytest.fixture(scope="module")
def plain(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(stack, tmp_path_factory.mktemp("plain"))


def train_aux(data: Path, folder: Path, *more: str) -> int:
    """The command line in this process."""
    given = ["--config-name", "pretrain_proj_aux", f"dataset.path={data}", f"hydra.run.dir={folder}", *TINY, *more]
    return cli.run_command(pretrain.parser(), given)


def test_the_configuration_is_that_of_malice_but_for_aux() -> None:
    aux = compose_settings(["dataset.path=d"], config_name="pretrain_proj_aux").settings
    malice = compose_settings(["dataset.path=d"]).settings
    assert (aux.module.auxiliary, malice.module.auxiliary) == (True, False)
    assert aux.name == "malice-aux"
    aux.module.auxiliary, aux.name, aux.card, aux.run_id = False, malice.name, malice.card, malice.run_id
    assert aux == malice
    sim = compose_settings(["dataset.path=d", "experiment=sim_aux"], config_name="pretrain_proj_aux").settings
    plain = compose_settings(["dataset.path=d", "experiment=sim"]).settings
    assert "Aux" in sim.card.title
    assert sim.evaluate.shuffle_weather
    sim.evaluate.shuffle_weather = False
    sim.module.auxiliary, sim.name, sim.card, sim.run_id = False, plain.name, plain.card, plain.run_id
    assert sim == plain


MORE = ("callbacks.pictures.every_n_epochs=1", "evaluate.shuffle_weather=true", "datamodule.batch_size=2")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with alone():
        assert train_aux(data, folder, *MORE) == 0
    return folder


def test_a_run_says_what_was_done(whole: Path) -> None:
    content = state(whole)
    assert content["hyper_parameters"]["auxiliary"] is True
    assert content["hyper_parameters"]["statistics"]["s2"]["channels"] == list(AUX["s2"].channels)
    assert "model.encoder.encoder_s1.ubarn.encoder_meteo.encoder.0.weight" in content["state_dict"]
    rows = read_curves(whole)
    for row in rows:
        assert all(np.isfinite(row[f"val/{name}"]) for name in SHUFFLED)
        assert row["val/total_loss_shuffled_weather"] != row["val/total_loss"]
    card = json.loads((whole / "model_card.json").read_text())
    assert card["objective"] == "MALICE Aux pre-training"
    assert card["title"] == "MALICE Aux, pre-trained"
    assert card["val_total_loss_shuffled_weather"] > 0
    assert len(list((whole / "pictures").iterdir())) == 12


def test_a_run_that_goes_on_ends_the_same_and_the_ablation_changes_no_weight(
    whole: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = ("datamodule.batch_size=2", "train.trainer.max_epochs=1")
    assert train_aux(data, tmp_path / "run", *more) == 0
    assert resume(tmp_path / "run", "train.trainer.max_epochs=2") == 0
    assert_same(state(whole), state(tmp_path / "run"))
    capfd.readouterr()
    assert resume(tmp_path / "run", "module.auxiliary=false", "train.trainer.max_epochs=3") == 2
    assert "another architecture" in one_line(capfd)


def test_plain_malice_trains_on_the_same_dataset(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "run", "train.trainer.max_epochs=1", "train.trainer.limit_train_batches=1") == 0
    assert state(tmp_path / "run")["hyper_parameters"]["auxiliary"] is False


def test_runs_of_before_are_of_malice(tmp_path: Path) -> None:
    """Their configuration has no word of it."""
    import yaml

    shown = yaml.safe_load(runfolder.OmegaConf.to_yaml(compose_settings(["dataset.path=d"]).settings))
    del shown["module"]["auxiliary"], shown["evaluate"]["shuffle_weather"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(shown))
    found = compose_settings([], base=tmp_path / "config.yaml").settings
    assert not found.module.auxiliary


@pytest.mark.parametrize(
    ("which", "given", "told"),
    [
        ("plain", (), "has no weather, terrain and angles, which MALICE Aux needs"),
        ("data", ("dataset.augment=true",), "augment=true"),
        ("data", ("evaluate.labels=x.tif", "evaluate.s2=S2"), "evaluate.labels=x.tif: MALICE Aux"),
        ("data", ("module.auxiliary=false", "evaluate.shuffle_weather=true"), "MALICE takes no weather"),
    ],
)
def test_what_cannot_be_is_one_line(
    which: str,
    given: tuple[str, ...],
    told: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = request.getfixturevalue(which)
    capfd.readouterr()
    assert train_aux(folder, tmp_path / "run", *given) == 2
    assert told in one_line(capfd)
    assert not (tmp_path / "run").exists()
