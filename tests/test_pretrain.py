"""Pre-training from the command line: configuration, run folders, what is refused."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import zipfile
from itertools import product
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("zarr")

from helpers_dataset import built  # noqa: E402
from helpers_pretrain import (  # noqa: E402
    ROOT,
    assert_same,
    begin,
    one_line,
    resume,
    small_dataset,
    small_stack,
    state,
    train,
)

from malice_core import cli, pretrain  # noqa: E402
from malice_core.errors import InputError, TrainingError  # noqa: E402
from malice_core.training import objective, run, runfolder, saving  # noqa: E402
from malice_core.training.callbacks import read_curves  # noqa: E402
from malice_core.training.composing import compose_settings, show  # noqa: E402

pytestmark = pytest.mark.usefixtures("pretraining")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stack(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module")
def data(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(stack, tmp_path_factory.mktemp("data"))


# Configuration


def test_the_defaults_are_the_published_values() -> None:
    found = compose_settings(["dataset.path=d"]).settings
    assert (found.datamodule.batch_size, found.datamodule.num_workers) == (2, 2)
    assert (found.dataset.crop_size, found.dataset.max_len, found.dataset.augment) == (64, 60, False)
    loss = found.module.loss
    assert (loss.w_inv, loss.w_rec, loss.w_cross, loss.same_mod_loss) == (1, 1, 0, True)
    assert (loss.frame, loss.lee_window, loss.encoder_mask) == (3, 7, "padded")
    assert (found.module.dropout, found.module.projector.block_gradient) == (0.1, False)
    assert (found.train.lr, found.train.scheduler.t_0, found.train.scheduler.t_mult) == (1e-3, 2, 2)
    trainer = found.train.trainer
    assert (trainer.min_epochs, trainer.max_epochs, trainer.precision) == (100, 150, "32-true")
    assert (trainer.accumulate_grad_batches, trainer.gradient_clip_val, trainer.sync_batchnorm) == (1, None, False)
    stop = found.callbacks.early_stopping
    assert (stop.monitor, stop.patience, found.callbacks.checkpoint.save_top_k) == ("val/total_loss", 20, 2)


def test_the_names_are_those_of_the_published_code() -> None:
    config = ROOT / "malice_core" / "config"
    groups = yaml.safe_load((config / "pretrain_proj.yaml").read_text(encoding="utf-8"))["defaults"]
    chosen = {key: value for entry in groups if isinstance(entry, dict) for key, value in entry.items()}
    expected = {"module": "alise_mm_proj", "datamodule": "mask_mm", "dataset": "mask_mm", "train": "pretrain_ssl"}
    assert chosen.items() >= expected.items()
    assert (config / "callbacks").is_dir()
    assert (config / "logger").is_dir()


def test_every_key_is_explained_by_a_comment() -> None:
    for path in (ROOT / "malice_core" / "config").rglob("*.yaml"):
        lines = path.read_text(encoding="utf-8").splitlines()
        if path.parent.name == "experiment":
            continue
        for above, line in itertools.pairwise(lines):
            if ":" in line and not line.lstrip().startswith(("#", "-")) and not line.endswith(":"):
                # A comment above, or another key of the same comment above it.
                assert above.lstrip().startswith("#") or ":" in above, f"{path.name}: {line}"


def test_command_line_changes_values() -> None:
    given = ["dataset.path=d", "train.lr=5e-4", "train.trainer.devices=3", "evaluate.s2=[a,b]", "evaluate.s1=c"]
    found = compose_settings([*given, "hydra.run.dir=elsewhere"])
    assert found.settings.train.lr == 5e-4
    assert found.settings.train.trainer.devices == 3
    assert (found.settings.evaluate.paths("s2"), found.settings.evaluate.paths("s1")) == (["a", "b"], ["c"])
    assert found.folder == Path("elsewhere")


def test_own_yaml_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\ntrain:\n  lr: 0.25\n")
    assert compose_settings(["dataset.path=d", "experiment=mine"], tmp_path).settings.train.lr == 0.25


def test_the_experiment_for_simulated_scenes_is_whole() -> None:
    found = compose_settings(["dataset.path=d", "experiment=sim"]).settings
    assert found.dataset.crop_size < 64
    assert found.card.tags == ["demo"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("train.learning_rate=1", "no key train.learning_rate"),
        ("+train.learning_rate=1", "learning_rate"),
        ("train.lr=fast", "train.lr: Value 'fast'"),
        ("train.lr=-1", "train.lr=-1.0 must be"),
        ("datamodule.batch_size=0", "datamodule.batch_size=0 must be at least 1"),
        ("train.trainer.max_epochs=50", "train.trainer.min_epochs=100"),
        ("train.trainer.precision=8", "32-true, bf16-mixed, 16-mixed"),
        ("module=unknown", "alise_mm_proj"),
        ("train.lr=[", "train.lr=["),
        ("evaluate.labels=x.tif", "evaluate.s2"),
        ("module.loss.lee_window=4", "lee_window 4"),
        ("module.loss.lee_window=17", "module.loss.lee_window=17 leaves nothing of dataset.crop_size=16"),
        ("module.loss.frame=8", "module.loss.frame=8 leaves nothing of dataset.crop_size=16"),
        ("module.loss.frame=100", "module.loss.frame=100 leaves nothing"),
        ("train.trainer.accelerator=cuda", "train.trainer"),
        ("train.trainer.precision=16-mixed", "needs a GPU"),
        ("train.trainer.sync_batchnorm=true", "needs GPUs"),
    ],
)
def test_a_wrong_value_is_one_line(
    given: str, told: str, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available() and given.startswith("train.trainer."):
        pytest.skip("there is a GPU")
    options = [f"dataset.path={data}", f"hydra.run.dir={tmp_path / 'run'}", "dataset.crop_size=16", given]
    assert cli.run_command(pretrain.parser(), options) == 2
    line = one_line(capfd)
    assert told in line
    assert len(line) < 700


def test_frames_and_strides_leave_pixels_to_learn_from() -> None:
    """What is refused is what could leave the losses nothing: each place a stride can begin at is tried."""
    for frame, stride, crop in product((0, 2, 3, 6, 9), (1, 2, 5, 8), (8, 16, 24)):
        given = ["dataset.path=d", f"dataset.crop_size={crop}", f"module.loss.frame={frame}"]
        edge = max(frame, 3)
        wanted = all(len(range(edge + begin, crop - edge, stride)) for begin in range(stride))
        told = None
        try:
            compose_settings([*given, f"module.loss.stride={stride}"])
        except InputError as error:
            told = f"{error}"
        assert (told is None) == wanted, (frame, stride, crop)
        assert told is None or f"dataset.crop_size={crop}" in told


def test_the_configuration_can_be_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert pretrain.main(["--cfg", "train.lr=0.5"]) == 0
    shown = yaml.safe_load(capfd.readouterr().out)
    assert shown["train"]["lr"] == 0.5
    assert shown["dataset"]["path"] == "???"
    with pytest.raises(InputError, match="no key foo"):
        show(["foo=1"])


def test_a_wheel_holds_the_configuration(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "malice_core", tmp_path / "malice_core", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "out"]
    pytest.importorskip("build")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "out").glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".yaml")}
    assert packed == {path.relative_to(ROOT).as_posix() for path in (ROOT / "malice_core").rglob("*.yaml")}
    assert "malice_core/config/module/alise_mm_proj.yaml" in packed


# A run


@pytest.fixture(scope="module")
def whole(data: Path, stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of a process of its own, with all that happens beside training."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    evaluate = [f"evaluate.{name}={stack / path}" for name, path in (("labels", "labels.tif"), ("s2", "S2"))]
    more = ["callbacks.pictures.every_n_epochs=1", "callbacks.pictures.dates=2", *evaluate, "evaluate.max_dates=3"]
    process = begin(data, folder, *more)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, ""), err
    assert "epoch 1 step 8: train " in out
    assert "linear probe" in out
    return folder


def test_a_run_folder_says_what_was_done(whole: Path, data: Path) -> None:
    config = yaml.safe_load((whole / "config.yaml").read_text(encoding="utf-8"))
    assert config["dataset"]["path"] == f"{data}"
    assert config["train"]["trainer"]["max_epochs"] == 2
    record = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    assert len(record["data"]["hash"]) == 64
    assert record["starts"][0]["torch"] == torch.__version__
    card = json.loads((whole / "model_card.json").read_text(encoding="utf-8"))
    assert card["data_hash"] == record["data"]["hash"]
    assert (card["epochs"], card["steps"], card["lr"]) == (2, 8, 1e-3)
    # The curve's last value is the checkpoint's.
    rows = read_curves(whole)
    assert [row["epoch"] for row in rows] == [0, 1]
    assert card["val_total_loss"] == pytest.approx(min(row["val/total_loss"] for row in rows), abs=1e-5)
    assert all(0 <= row[name] <= 1 for row in rows for name in ("probe/linear", "probe/neighbours"))
    assert rows[0]["lr"] == 1e-3
    names = {path.name for path in (whole / "pictures").iterdir()}
    views = [f"reconstruction_{key}" for key in ("s2a", "s2b", "s1a", "s1b")]
    assert names == {
        f"{name}_epoch_00{epoch}.png" for name in (*views, "embedding_s2", "embedding_s1") for epoch in (0, 1)
    }
    assert list((whole / "tensorboard").glob("events*"))
    assert (whole / "csv" / "version_0" / "metrics.csv").is_file()
    best = list((whole / "checkpoints").glob("best-*.ckpt"))
    assert len(best) == 2
    assert not list(whole.rglob("*.part"))


def test_probes_and_pictures_change_no_weight(whole: Path, data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "plain", "logger.tensorboard=false", "logger.csv=false") == 0
    assert_same(state(whole), state(tmp_path / "plain"))


def test_nothing_is_written_outside_the_run_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(data, Path("a") / "b", "train.trainer.max_epochs=1", "train.trainer.limit_train_batches=1") == 0
    assert Path.cwd() == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_a_run_never_overwrites_another(whole: Path, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert train(data, whole) == 2
    assert "train.resume" in one_line(capfd)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_run_folders_of_one_second_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    composed = compose_settings(["dataset.path=d"])
    made = []
    for _ in range(3):
        made.append(runfolder.create(composed).folder)
        (made[-1] / "file").touch()
    assert [path.name.removeprefix(made[0].name) for path in made] == ["", "-2", "-3"]


# What goes wrong


def test_a_full_disk_keeps_the_last_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def fsync(number: int) -> None:
        calls.append(number)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(saving.os, "fsync", fsync)
        assert train(data, tmp_path / "run") == 2
    line = one_line(capfd)
    assert "No space left" in line
    assert "last.ckpt is kept" in line
    assert state(tmp_path / "run")["global_step"] == 2
    assert not list((tmp_path / "run").rglob("*.part"))
    assert resume(tmp_path / "run") == 0


def test_slow_bfloat16_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On processors without AVX-512, and only where it was asked for."""
    for fast, precision, told in ((False, "bf16-mixed", 1), (False, "32-true", 0), (True, "bf16-mixed", 0)):
        monkeypatch.setattr(run, "bfloat16_is_fast", lambda fast=fast: fast)
        settings = compose_settings([f"dataset.path={data}", f"train.trainer.precision={precision}"]).settings
        settings.train.trainer.accelerator = "cpu"
        run.make_trainer(settings, tmp_path, [], [])
        assert capfd.readouterr().out.count("bf16-mixed is many times slower") == told


def test_a_loss_that_is_not_finite_names_the_places(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(objective.losses, "total", lambda inv, rec, *weights: rec * float("nan"))
    assert train(data, tmp_path / "run") == TrainingError.exit_code
    assert " patch " in one_line(capfd)


def test_datasets_that_cannot_be_used(
    stack: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "none.zarr", tmp_path / "run") == 2
    assert "no such dataset" in one_line(capfd)
    built(stack, tmp_path / "empty.zarr", "--split", "0/0/1")
    capfd.readouterr()
    assert train(tmp_path / "empty.zarr", tmp_path / "run") == 2
    assert "no patch for train" in one_line(capfd)
    broken = tmp_path / "broken.zarr"
    shutil.copytree(data, broken)
    (place,) = [path for path in broken.iterdir() if path.is_dir()]
    shutil.rmtree(place / "s1_counts")
    assert train(broken, tmp_path / "run") == 2
    assert "s1_counts" in one_line(capfd)
    content = json.loads((place / "zarr.json").read_text())
    del next(iter(content["attributes"].values()))["sensors"]["s1"]
    (place / "zarr.json").write_text(json.dumps(content))
    assert train(broken, tmp_path / "run") == 2
    assert "no Sentinel-1" in one_line(capfd)
    assert cli.run_command(pretrain.parser(), []) == 2
    assert "dataset.path" in one_line(capfd)
    assert not (tmp_path / "run").exists()


def test_checkpoints_that_cannot_be_resumed(
    whole: Path, stack: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    last = folder / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    name = "model.encoder.common_temp_proj.Q"
    content["state_dict"][name] = torch.zeros(2, 12, 64)
    torch.save(content, last)
    assert resume(folder) == 2
    line = one_line(capfd)
    assert "another architecture" in line
    assert name in line
    del content["state_dict"][name]
    torch.save(content, last)
    assert resume(folder) == 2
    assert "is missing" in one_line(capfd)
    last.write_bytes(b"PK not a checkpoint")
    assert resume(folder) == 2
    assert "last.ckpt" in one_line(capfd)
    last.unlink()
    assert resume(folder) == 2
    assert "there is no" in one_line(capfd)
    other = built(stack, tmp_path / "other.zarr", "--patch", 24, "--split", "0.5/0.5/0").folder
    capfd.readouterr()
    assert resume(whole, f"dataset.path={other}") == 2
    assert "hash" in one_line(capfd)
