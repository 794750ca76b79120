"""Pre-training from the command line: configuration, run folders, resuming, stopping, what is refused."""

from __future__ import annotations

import errno
import itertools
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("zarr")

from helpers_dataset import FIRST, built  # noqa: E402
from helpers_stack import backscatter, reflectance, write, write_s1  # noqa: E402

from malice_core import cli, pretrain  # noqa: E402
from malice_core.errors import InputError, TrainingError  # noqa: E402
from malice_core.training import callbacks, objective, runfolder, saving  # noqa: E402
from malice_core.training.callbacks import read_curves  # noqa: E402
from malice_core.training.settings import compose_settings, show  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
#: Small enough that a step takes a quarter of a second.
TINY = (
    "dataset.crop_size=16",
    "dataset.max_len=4",
    "datamodule.batch_size=1",
    "datamodule.num_workers=0",
    "train.threads=1",
    "train.trainer.accelerator=cpu",
    "train.trainer.min_epochs=1",
    "train.trainer.max_epochs=2",
    "train.trainer.limit_train_batches=4",
    "train.trainer.limit_val_batches=1",
    "callbacks.checkpoint.every_n_train_steps=2",
    "callbacks.pictures.every_n_epochs=0",
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Signals and environment are as before after each test; one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    monkeypatch.setenv(runfolder.FOLDER, "")
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six whole and clear images of either sensor, 48 x 64 pixels, and labels."""
    folder = tmp_path_factory.mktemp("stack")
    for i in range(6):
        day = FIRST + timedelta(days=10 * i)
        write(folder / "S2" / f"S2_{day:%Y%m%d}.tif", reflectance(48, 64, seed=i))
        write_s1(folder / "S1" / f"S1_{day:%Y%m%d}.tif", backscatter(48, 64, seed=i))
    classes = np.arange(48 * 64).reshape(1, 48, 64) // 8 % 3
    write(folder / "labels.tif", classes.astype(np.uint8), names=None)
    return folder


@pytest.fixture(scope="module")
def data(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of 16 pixels."""
    without_scl = stack / "SCL"
    write(without_scl / f"SCL_{FIRST:%Y%m%d}.tif", np.full((1, 48, 64), 4, np.uint8), names=("SCL",))
    folder: Path = built(stack, tmp_path_factory.mktemp("data") / "d.zarr", "--split", "0.7/0.2/0.1").folder
    return folder


def train(data: Path, folder: Path, *more: str) -> int:
    """The command line in this process."""
    return cli.run_command(pretrain.parser(), [f"dataset.path={data}", f"hydra.run.dir={folder}", *TINY, *more])


def resume(folder: Path, *more: str) -> int:
    return cli.run_command(pretrain.parser(), [f"train.resume={folder}", *more])


def begin(data: Path, folder: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "malice_core.pretrain", f"dataset.path={data}", *TINY, *more]
    return subprocess.Popen(
        [*command, f"hydra.run.dir={folder}"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}", "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def state(folder: Path) -> dict[str, Any]:
    """The last checkpoint."""
    found: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return found


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Weights, batch statistics and Adam's moments are equal, bit for bit."""
    assert a["global_step"] == b["global_step"]
    for name, tensor in a["state_dict"].items():
        assert torch.equal(tensor, b["state_dict"][name]), name
    for number, moments in a["optimizer_states"][0]["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(tensor, b["optimizer_states"][0]["state"][number][name]), (number, name)


def one_line(capfd: pytest.CaptureFixture[str]) -> str:
    """The only line on stderr."""
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


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
        made.append(runfolder.create(composed))
        (made[-1] / "file").touch()
    assert [path.name.removeprefix(made[0].name) for path in made] == ["", "-2", "-3"]


# Stopping and going on


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def test_a_killed_run_goes_on_as_if_it_never_stopped(whole: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = begin(data, folder)
    wait_for(folder / "checkpoints" / "last.ckpt", process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    reached = state(folder)["global_step"]
    assert 0 < reached < 8
    # Other random numbers in between change nothing.
    torch.manual_seed(reached)
    assert resume(folder) == 0
    assert_same(state(whole), state(folder))


def test_a_stopped_run_saves_and_says_how_to_go_on(whole: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    process = begin(data, folder)
    wait_for(folder / "checkpoints" / "last.ckpt", process)
    process.terminate()
    _, err = process.communicate()
    assert process.returncode == 3, err
    assert len(err.splitlines()) == 1
    assert f"train.resume={folder}" in err
    assert resume(folder) == 0
    assert_same(state(whole), state(folder))


def at_step(monkeypatch: pytest.MonkeyPatch, where: str, step: int, what: Callable[[], object]) -> None:
    """Does something at a hook, once, when so many batches are done or begun."""
    done: list[bool] = []

    def hook(self: Any, trainer: Any, *arguments: Any, **options: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 >= step and not done:
            done.append(True)
            what()

    monkeypatch.setattr(callbacks.PlainProgress, where, hook, raising=False)


@pytest.mark.parametrize("where", ["on_train_batch_end", "on_validation_batch_end"])
def test_ctrl_c_ends_the_run_at_its_next_step(
    where: str,
    whole: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, where, 3, lambda: signal.raise_signal(signal.SIGINT))
        assert train(data, tmp_path / "run", "callbacks.checkpoint.every_n_train_steps=0") == 3
    assert "train.resume=" in one_line(capfd)
    assert state(tmp_path / "run")["global_step"] == 3
    assert resume(tmp_path / "run") == 0
    assert_same(state(whole), state(tmp_path / "run"))


class _KilledError(Exception):
    pass


def _kill() -> None:
    raise _KilledError


@pytest.mark.parametrize(
    ("where", "step"), [("on_validation_start", 4), ("on_train_epoch_end", 4), ("on_train_batch_start", 5)]
)
def test_a_run_goes_on_from_an_epochs_end(
    where: str, step: int, whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From just before it, and from the checkpoint between two epochs."""
    with monkeypatch.context() as patch:
        at_step(patch, where, step, _kill)
        assert train(data, tmp_path / "part") == 1
    assert state(tmp_path / "part")["global_step"] == (3 if step == 4 else 4)
    assert resume(tmp_path / "part") == 0
    assert_same(state(whole), state(tmp_path / "part"))


def test_sums_of_gradients_and_workers_are_resumed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = ("train.trainer.accumulate_grad_batches=2", "datamodule.num_workers=1")
    assert train(data, tmp_path / "whole", *more) == 0
    with monkeypatch.context() as patch:
        # Of epoch 1 two batches make a step, and one more is in a sum.
        at_step(patch, "on_train_batch_end", 7, _kill)
        assert train(data, tmp_path / "part", *more) == 1
    assert state(tmp_path / "part")["global_step"] == 3
    assert resume(tmp_path / "part") == 0
    assert_same(state(tmp_path / "whole"), state(tmp_path / "part"))


def test_more_epochs_can_be_added(whole: Path, data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "short", "train.trainer.max_epochs=1") == 0
    assert resume(tmp_path / "short", "train.trainer.max_epochs=2") == 0
    assert_same(state(whole), state(tmp_path / "short"))
    assert [row["epoch"] for row in read_curves(tmp_path / "short")] == [0, 1]


def test_slurm_jobs_are_queued_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tool = tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/told"\n')
    tool.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_NODELIST": "localhost"}
    slurm |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    command = [f"dataset.path={data}", *TINY, "train.trainer.devices=1"]
    with monkeypatch.context() as patch:
        at_step(patch, "on_train_batch_end", 2, lambda: signal.raise_signal(signal.SIGUSR1))
        assert cli.run_command(pretrain.parser(), command) == 3
    assert (tmp_path / "told").read_text() == "requeue 7\n"
    assert "queued again" in one_line(capfd)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert cli.run_command(pretrain.parser(), command) == 0
    assert "going on from" in capfd.readouterr().out
    assert state(tmp_path / "runs" / "malice" / "slurm-7")["global_step"] == 8


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


# Several processes

#: The command line with batch norms on their running statistics: those of a batch depend on what is in it.
FROZEN = """
import sys
import torch
from malice_core import cli, pretrain
from malice_core.training import saving

def freeze(self, trainer, module, *arguments):
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.eval()

saving.StepSeed.on_train_batch_start = freeze
if __name__ == "__main__":
    sys.exit(cli.run_command(pretrain.parser(), sys.argv[1:]))
"""


def test_two_processes_have_the_gradients_of_one_with_twice_the_batch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["module.dropout=0", "train.trainer.max_epochs=1", "train.trainer.limit_train_batches=1"]
    script = tmp_path / "frozen.py"
    script.write_text(FROZEN)
    options = [f"dataset.path={data}", f"hydra.run.dir={tmp_path / 'two'}", *TINY, *more]
    options += ["train.trainer.devices=2", "datamodule.batch_size=1"]
    done = subprocess.run(
        [sys.executable, f"{script}", *options],
        env=os.environ | {"PYTHONPATH": f"{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    kept = saving.StepSeed.on_train_batch_start
    monkeypatch.setattr(saving.StepSeed, "on_train_batch_start", kept)
    runpy.run_path(f"{script}")
    assert train(data, tmp_path / "one", *more, "datamodule.batch_size=2") == 0
    # After one step Adam's first moment is a tenth of the gradient.
    one, two = (state(tmp_path / name)["optimizer_states"][0]["state"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    scale = max(float(moments["exp_avg"].abs().max()) for moments in one.values())
    assert scale > 0
    for number, moments in one.items():
        torch.testing.assert_close(two[number]["exp_avg"], moments["exp_avg"], rtol=1e-3, atol=1e-5 * scale)
