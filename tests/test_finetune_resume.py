"""Fine-tuning that is resumed, moved, stopped or refused: what is there stays, and what is asked for now counts."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("torchmetrics")

from helpers_finetune import in_process, tune, write_pastis, write_scene  # noqa: E402
from helpers_models import write_random_model  # noqa: E402
from helpers_pretrain import one_line, slurm_job, state  # noqa: E402

from malice_core import classifier, cli, finetune  # noqa: E402
from malice_core.errors import ModelError  # noqa: E402
from malice_core.store.statistics import MALICE  # noqa: E402
from malice_core.training import runfolder  # noqa: E402
from malice_core.training.callbacks import read_curves  # noqa: E402
from malice_core.training.composing import compose_for  # noqa: E402
from malice_core.training.finetuning import run as running  # noqa: E402
from malice_core.training.finetuning import start  # noqa: E402
from malice_core.training.finetuning.settings import COMMAND  # noqa: E402
from malice_core.training.finetuning.start import Start  # noqa: E402
from malice_core.training.module import PretrainingModule  # noqa: E402

pytestmark = pytest.mark.usefixtures("tuning")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with ``tiny`` and ``other``."""
    folder = tmp_path_factory.mktemp("models")
    write_random_model(folder)
    write_random_model(folder, name="other", seed=5)
    return folder


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pastis(tmp_path_factory.mktemp("pastis") / "p")


def given(patches: Path, *more: str) -> list[str]:
    """A frozen run of two seconds."""
    return [f"data.pastis={patches}", "data.sensors=[s2]", "head=linear", "train.trainer.max_epochs=2", *more]


@pytest.fixture(scope="module")
def kept(patches: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; nothing may be done to it."""
    folder = tmp_path_factory.mktemp("runs") / "kept"
    with in_process(store):
        assert tune(folder, *given(patches)) == 0
    return folder


@pytest.fixture
def run(kept: Path, tmp_path: Path) -> Path:
    """A copy of it, under another name."""
    return Path(shutil.copytree(kept, tmp_path / "run"))


def resume(folder: Path, *more: str) -> int:
    return cli.run_command(finetune.parser(), [f"train.resume={folder}", *more])


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {f"{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def best(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("best-*"))


def raising(error: BaseException) -> Callable[..., Any]:
    """Something that only fails."""

    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    return fail


# What is refused


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("head.kind=master_query", "another architecture"),
        ("mode=full", "mode=full"),
        ("model=other", "model other"),
        ("data.max_pixels=50", "data.max_pixels=50"),
        ("train.batch_pixels=4096", "train.batch_pixels=4096"),
        ("seed=3", "seed=3"),
        ("train.monitor=f1", "begun with iou"),
    ],
)
def test_a_refused_resume_leaves_the_run_as_it_was(
    change: str, told: str, run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = content(run)
    assert resume(run, change) == 2
    assert told in one_line(capfd)
    assert content(run) == before
    assert resume(run) == 0


@pytest.mark.parametrize("damage", ["weights", "cut", "moments", "settings", "starts"])
def test_what_is_no_state_of_a_run_is_one_line(damage: str, run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    last, record = run / "checkpoints" / "last.ckpt", run / "run.json"
    if damage == "weights":
        torch.save({"state_dict": state(run)["state_dict"]}, last)
    elif damage == "cut":
        last.write_bytes(last.read_bytes()[:-1000])
    elif damage == "moments":
        torch.save(state(run) | {"optimizer_states": [{"state": {}, "param_groups": []}]}, last)
    else:
        plain = json.loads(record.read_text())
        changed = {"settings": plain | {"data": plain["data"] | {"settings": [1]}}, "starts": plain | {"starts": "abc"}}
        record.write_text(json.dumps(changed[damage]))
    before = content(run)
    assert resume(run) == 2
    told = {"weights": "weights only", "cut": "cut off", "moments": "optimizer_states.0.param_groups is []"}
    assert told.get(damage, "run.json is damaged") in one_line(capfd)
    assert content(run) == before


def test_one_process_writes_to_a_run(run: Path, patches: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """While another one has it: a resume is refused and leaves it as it is, and a new run never takes its folder."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom malice_core.scratch import lock\n"
        "held = lock(Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    new = run.with_name("new")
    new.mkdir()
    before = content(run)
    others = []
    for folder in (run, new):
        command = [sys.executable, "-c", program, f"{folder / runfolder.LOCK}"]
        others.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert others[-1].stdout is not None
        assert others[-1].stdout.readline() == "held\n"
    try:
        assert resume(run, "train.trainer.max_epochs=3") == 2
        assert f"another run is writing {run}" in one_line(capfd)
        assert content(run) == before
        assert tune(new, *given(patches)) == 2
        assert f"another run is writing {new}" in one_line(capfd)
        assert [path.name for path in new.iterdir()] == [runfolder.LOCK]
    finally:
        for other in others:
            other.kill()
            other.communicate()
    # However the other one ended.
    assert resume(run) == 0
    assert tune(new, *given(patches)) == 0


def test_runs_of_one_second_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by the time alone, and begun at once: before either has written a file."""
    monkeypatch.chdir(tmp_path)
    composed = compose_for(COMMAND, ["data.labels=a", "data.s2=b"])
    made, lock = [], runfolder.scratch.lock

    def slow(path: Path) -> Any:
        # The other run looks whether the folder is free before this one has its lock.
        if not made:
            made.append(path.parent)
            path.parent.mkdir(exist_ok=True)
            slow.held = lock(path)  # type: ignore[attr-defined]
        return lock(path)

    monkeypatch.setattr(runfolder.scratch, "lock", slow)
    folder = runfolder.create(composed).folder
    assert folder.name == f"{made[0].name}-2"
    slow.held.close()  # type: ignore[attr-defined]


def test_units_and_clouds_stay(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "scene")
    more = [f"data.labels={scene / 'labels.tif'}", f"data.s2={scene / 'S2'}", "train.trainer.max_epochs=1"]
    assert tune(tmp_path / "run", *more) == 0
    assert resume(tmp_path / "run", "data.s2_offset=-1000") == 2
    assert "data.s2_offset=-1000" in one_line(capfd)


def test_the_default_model_is_written_down(patches: Path, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store / "tiny", tmp_path / "store" / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALICE_MODELS", f"{tmp_path / 'store'}")
        patch.setattr("malice_core.models.search_path", lambda: [tmp_path / "store"])
        assert tune(tmp_path / "run", *given(patches, "model=null")) == 0
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"] == "tiny"


def test_a_checkpoint_with_other_weights_is_another_start(
    patches: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.ckpt"
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = PretrainingModule()
        torch.save({"state_dict": network.state_dict(), "hyper_parameters": dict(network.hparams)}, path)
        if seed == 0:
            assert tune(tmp_path / "run", *given(patches, f"model={path}")) == 0
    capfd.readouterr()
    assert resume(tmp_path / "run") == 2
    assert "p.ckpt" in one_line(capfd)


def test_a_run_folder_is_no_model(run: Path, patches: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert tune(tmp_path / "new", *given(patches, f"model={run}")) == 2
    assert f"such as model={run / 'checkpoints' / best(run)[-1]}" in one_line(capfd)
    assert tune(tmp_path / "new", *given(patches, f"model={tmp_path}")) == 2
    assert "folder without checkpoints" in one_line(capfd)


@pytest.mark.parametrize("change", ["data.band=2", "data.mask_clouds=true", "data.s2_offset=-1000"])
def test_what_pastis_has_not_is_not_passed_over(
    change: str, patches: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert tune(tmp_path / "run", *given(patches, change)) == 2
    assert "leave it out" in one_line(capfd)


def test_paths_that_are_given_anew_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = write_scene(tmp_path / "scene")
    more = [f"data.labels={scene / 'labels.tif'}", f"data.s2={scene / 'S2'}", "train.trainer.max_epochs=1"]
    assert tune(tmp_path / "run", *more) == 0
    monkeypatch.chdir(scene)
    assert resume(tmp_path / "run", "data.labels=labels.tif", "data.s2=S2") == 0
    data = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]
    assert (data["labels"], data["s2"]) == (f"{scene / 'labels.tif'}", [f"{scene / 'S2'}"])


# Folders


def test_a_copied_run_keeps_its_best_epoch(kept: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, names = content(kept), best(run)
    scores = json.loads((run / "scores.json").read_text())
    assert resume(run, "train.trainer.max_epochs=3", "train.lr=500") == 0
    assert best(run) == names
    again = json.loads((run / "scores.json").read_text())
    assert (again["best_epoch"], again["val"]) == (scores["best_epoch"], scores["val"])
    assert len(read_curves(run)) == 3
    assert content(kept) == original


def test_a_moved_run_that_was_over_comes_to_its_end(patches: Path, tmp_path: Path) -> None:
    assert tune(tmp_path / "run", *given(patches)) == 0
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    shutil.rmtree(moved / "classifier")
    assert resume(moved) == 0
    assert len(classifier.read(moved).classes) == 3


def test_best_checkpoints_are_those_that_are_there(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The run's own was replaced by a better one, and a kill came before the last checkpoint said so."""
    folder = run / "checkpoints"
    (own,) = best(run)
    (folder / own).rename(folder / "best-000-0.9990.ckpt")
    for stray in ("best-000-0.0100.ckpt", "best-001-0.0200-v1.ckpt", "best-001-0.9000.ckpt.part", "best-of-all.ckpt"):
        (folder / stray).write_bytes(b"")
    assert resume(run) == 0
    assert best(run) == ["best-000-0.9990.ckpt", "best-of-all.ckpt"]
    assert json.loads((run / "scores.json").read_text())["best_epoch"] == 0
    (folder / "best-000-0.9990.ckpt").unlink()
    capfd.readouterr()
    assert resume(run) == 2
    assert "max_epochs=3 trains on" in one_line(capfd)
    assert resume(run, "train.trainer.max_epochs=3") == 0


def test_a_killed_epoch_leaves_no_second_best(patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the first best checkpoint, before the last one names it."""
    with monkeypatch.context() as patch:
        patch.setattr(running.Curves, "on_train_epoch_end", raising(RuntimeError("killed")))
        assert tune(tmp_path / "run", *given(patches, "train.trainer.max_epochs=1", "train.batch_pixels=32")) == 1
    assert len(best(tmp_path / "run")) == 1
    assert resume(tmp_path / "run") == 0
    (name,) = best(tmp_path / "run")
    assert "-v" not in name


def test_a_failed_start_removes_only_what_it_made(
    kept: Path, patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running.samples, "embed_splits", raising(ModelError("broken")))
    (tmp_path / "empty").mkdir()
    assert tune(tmp_path / "empty", *given(patches)) == 2
    assert list((tmp_path / "empty").iterdir()) == []
    assert tune(tmp_path / "new", *given(patches)) == 2
    assert not (tmp_path / "new").exists()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years")
    capfd.readouterr()
    assert tune(foreign, *given(patches)) == 2
    assert "no run folder" in one_line(capfd)
    assert (foreign / "thesis.txt").read_text() == "years"
    # What this job began before it was queued again, and saved nothing of.
    (foreign / "config.yaml").write_text("")
    assert tune(foreign, *given(patches)) == 2
    assert "broken" in one_line(capfd)
    assert {path.name for path in foreign.iterdir()} == {"thesis.txt", "config.yaml"}


def test_a_classifier_stays_until_the_next_one_is_there(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before, rename = content(run / "classifier"), Path.rename

    def failing(self: Path, target: Path) -> Path:
        if Path(target).name == "classifier" and not self.name.endswith(".old"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        assert resume(run) == 2
    assert "No space left" in one_line(capfd)
    assert content(run / "classifier") == before
    assert not list(run.glob(".classifier*"))
    # Killed between the two names.
    (run / "classifier").rename(run / start.OLD)
    (run / ".classifier.abcd").mkdir()
    # What is refused at the last moment leaves that as it is; what goes on puts it right.
    found = content(run)
    for name in ("require_same_order", "fit"):
        assert content(run) == found
        assert (run / ".classifier.abcd").exists()
        with monkeypatch.context() as patch:
            patch.setattr(running, name, raising(ModelError("broken")))
            assert resume(run) == 2
    assert content(run / "classifier") == before
    assert not list(run.glob(".classifier*"))


# What is asked for now


def test_rates_and_statistics_of_full_training(
    patches: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    statistics = {"s2": replace(MALICE["s2"], med=tuple(value + 7 for value in MALICE["s2"].med)), "s1": MALICE["s1"]}
    network = PretrainingModule(statistics=statistics)
    torch.save({"state_dict": network.state_dict(), "hyper_parameters": dict(network.hparams)}, tmp_path / "p.ckpt")
    run = tmp_path / "run"
    more = ["mode=full", "train.batch_size=1", "train.trainer.limit_train_batches=2", f"model={tmp_path / 'p.ckpt'}"]
    assert tune(run, *given(patches, *more, "train.trainer.max_epochs=1")) == 0
    rates = ["train.lr=0.25", "train.encoder_lr=1e-6", "train.weight_decay=0.125"]
    assert resume(run, "train.trainer.max_epochs=2", *rates) == 0
    groups = state(run)["optimizer_states"][0]["param_groups"]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.25, 0.125), (1e-6, 0.125)]
    path = run / "checkpoints" / best(run)[0]
    assert Start.of(f"{path}").statistics == {"s2": statistics["s2"]}
    # Checkpoints before these had none.
    loaded = torch.load(path, weights_only=True)
    loaded["hyper_parameters"].pop("statistics")
    torch.save(loaded, path)
    with pytest.raises(ModelError, match="does not say how images are normalised"):
        Start.of(f"{path}")


def test_a_run_that_patience_ended_is_over(patches: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert tune(run, *given(patches, "train.trainer.max_epochs=9", "train.patience=1", "train.lr=1e-12")) == 0
    assert len(read_curves(run)) == 2
    before = content(run)
    shutil.rmtree(run / "classifier")
    assert resume(run) == 0
    assert len(read_curves(run)) == 2
    assert content(run)["classifier/classifier.json"] == before["classifier/classifier.json"]
    assert resume(run, "train.patience=3") == 0
    assert len(read_curves(run)) == 4
    # More epochs are patience anew.
    assert resume(run, "train.trainer.max_epochs=10") == 0
    assert len(read_curves(run)) == 7
    assert resume(run) == 0
    assert len(read_curves(run)) == 7


# Stopping


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SLURM job; what scontrol was told."""
    return slurm_job(tmp_path, monkeypatch)


@pytest.mark.parametrize("where", ["embedding", "scoring"])
def test_a_job_is_queued_again_from_wherever_it_is(
    where: str,
    told: Path,
    patches: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        owner, name = (running.samples, "embed_splits") if where == "embedding" else (running, "_scored")
        patch.setattr(owner, name, lambda *arguments, **options: signal.raise_signal(signal.SIGUSR1))
        assert tune(run, *given(patches)) == 3
    line = one_line(capfd)
    assert "SLURM job 7 is queued again" in line
    assert told.read_text() == "requeue 7\n"
    assert (f"train.resume={run}" in line, run.exists()) == ((where == "scoring"),) * 2
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert tune(run, *given(patches)) == 0
    assert len(classifier.read(run).classes) == 3


def test_a_gpu_that_is_too_small_is_one_line(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    for owner, name, cure in (
        (running.samples, "embed_splits", "accelerator=cpu"),
        (running, "_scored", f"train.resume={run} train.trainer.accelerator=cpu"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, raising(torch.OutOfMemoryError("CUDA")))
            assert tune(run, *given(patches)) == 1
        line = one_line(capfd)
        assert "out of GPU memory" in line
        assert cure in line
    assert resume(run, "train.trainer.accelerator=cpu") == 0
