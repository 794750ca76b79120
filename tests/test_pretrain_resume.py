"""Pre-training that is killed, stopped, put back into a queue or spread over processes ends with the same weights."""

from __future__ import annotations

import csv
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("zarr")

from helpers_pretrain import (  # noqa: E402
    ROOT,
    TINY,
    alone,
    assert_same,
    begin,
    one_line,
    resume,
    slurm_job,
    small_dataset,
    small_stack,
    state,
    train,
    wait_for,
)

from malice_core import cli, pretrain  # noqa: E402
from malice_core.training import callbacks, saving  # noqa: E402
from malice_core.training.callbacks import read_curves  # noqa: E402

pytestmark = pytest.mark.usefixtures("pretraining")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return small_dataset(small_stack(folder), folder)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with alone():
        assert train(data, folder) == 0
    return folder


# Stopping and going on


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


def test_a_moved_run_keeps_its_best_epochs_and_takes_another_rate(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "run", "train.trainer.max_epochs=1") == 0
    assert state(tmp_path / "run")["optimizer_states"][0]["param_groups"][0]["initial_lr"] == 1e-3
    (best,) = (tmp_path / "run" / "checkpoints").glob("best-*")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    capfd.readouterr()
    assert resume(moved, "train.scheduler.t_0=5") == 2
    assert "train.scheduler.t_0=5" in one_line(capfd)
    assert resume(moved, "train.trainer.max_epochs=2", "train.lr=0.0002") == 0
    last = state(moved)
    (kept,) = (one for name, one in last["callbacks"].items() if name.startswith("ModelCheckpoint"))
    names = {path.name for path in (moved / "checkpoints").glob("best-*")}
    assert best.name in names
    assert {Path(path).name for path in kept["best_k_models"]} == names
    assert {Path(path).parent for path in kept["best_k_models"]} == {moved / "checkpoints"}
    # The second of two epochs of a cycle has half of the cycle's rate.
    assert [row["lr"] for row in read_curves(moved)] == pytest.approx([1e-3, 1e-4])
    assert last["lr_schedulers"][0]["base_lrs"] == pytest.approx([2e-4])


@pytest.mark.parametrize("together", [1, 2])
def test_a_run_goes_on_from_a_best_checkpoint(together: int, data: Path, tmp_path: Path) -> None:
    """Which is written in validation, behind the epoch's last batch; its logs count steps, not batches."""
    more = (f"train.trainer.accumulate_grad_batches={together}", "logger.csv=true")
    assert train(data, tmp_path / "whole", *more) == 0
    assert train(data, tmp_path / "short", *more, "train.trainer.max_epochs=1") == 0
    (best,) = (tmp_path / "short" / "checkpoints").glob("best-*")
    assert resume(best, "train.trainer.max_epochs=2") == 0
    assert_same(state(tmp_path / "whole"), state(tmp_path / "short"))
    assert [row["epoch"] for row in read_curves(tmp_path / "short")] == [0, 1]
    counts = [state(tmp_path / name)["loops"]["fit_loop"]["epoch_loop.state_dict"] for name in ("whole", "short")]
    assert counts[0] == counts[1] == {"_batches_that_stepped": 8 // together}
    assert logged(tmp_path / "short") == logged(tmp_path / "whole")


def logged(folder: Path) -> list[tuple[str, str]]:
    """Epochs and steps of validation that Lightning's logs of all starts name."""
    tables = [csv.DictReader(path.open()) for path in sorted((folder / "csv").glob("*/metrics.csv"))]
    return [(row["epoch"], row["step"]) for table in tables for row in table if row["val/total_loss"]]


@pytest.fixture(scope="module")
def half(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed behind three of four batches; nothing may be done to it."""
    folder = tmp_path_factory.mktemp("runs") / "half"
    with alone(), pytest.MonkeyPatch.context() as patch:
        at_step(patch, "on_train_batch_end", 4, _kill)
        assert train(data, folder) == 1
    return folder


@pytest.mark.parametrize(
    ("change", "told"),
    [
        # 3 batches of 2 would be the first 6 samples, of which 3 were never seen; of 4 there are no more than these.
        ("datamodule.batch_size=2", "2, which was 1"),
        ("datamodule.batch_size=4", "4, which was 1"),
        ("train.trainer.devices=2", "2, which was 1"),
        ("dataset.crops_per_patch=2", "16, which was 8"),
        ("seed=3", "seed 3, which was 0"),
        ("train.trainer.limit_train_batches=3", "limit_train_batches=3"),
        ("train.trainer.accumulate_grad_batches=2", "accumulate_grad_batches=2"),
    ],
)
def test_what_changes_the_order_waits_for_the_epochs_end(
    change: str, told: str, half: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(half, tmp_path / "run"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert resume(folder, change) == 2
    line = one_line(capfd)
    assert "in the middle of epoch 0, behind 3 batches" in line
    assert told in line
    assert "(train.trainer.max_epochs=1)" in line
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_batches_change_where_an_epoch_has_ended(half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(half, tmp_path / "run"))
    assert resume(folder, "train.trainer.max_epochs=1") == 0
    assert state(folder)["global_step"] == 4
    seen: list[str] = []
    start = saving.StepSeed.on_train_batch_start

    def noting(self: Any, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        seen.extend(batch.names)
        start(self, trainer, module, batch, batch_idx)

    monkeypatch.setattr(saving.StepSeed, "on_train_batch_start", noting)
    assert resume(folder, "train.trainer.max_epochs=2", "datamodule.batch_size=2") == 0
    # Each of the 8 places once, 4 steps of 2.
    assert state(folder)["global_step"] == 8
    assert len(set(seen)) == len(seen) == 8


def test_slurm_jobs_are_queued_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told = slurm_job(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    command = [f"dataset.path={data}", *TINY, "train.trainer.devices=1"]
    with monkeypatch.context() as patch:
        at_step(patch, "on_train_batch_end", 2, lambda: signal.raise_signal(signal.SIGUSR1))
        assert cli.run_command(pretrain.parser(), command) == 3
    assert told.read_text() == "requeue 7\n"
    assert "queued again" in one_line(capfd)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert cli.run_command(pretrain.parser(), command) == 0
    assert "going on from" in capfd.readouterr().out
    assert state(tmp_path / "runs" / "malice" / "slurm-7")["global_step"] == 8


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
