"""Checkpoints that were cut off, damaged or crafted: one line, nothing of them is run, and the run stays as it was."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("zarr")

from helpers_pretrain import alone, one_line, resume, small_dataset, small_stack, train  # noqa: E402

from malice_core import cli, export, models  # noqa: E402

pytestmark = pytest.mark.usefixtures("pretraining")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps; nothing may be done to it."""
    folder = tmp_path_factory.mktemp("data")
    data = small_dataset(small_stack(folder), folder)
    with alone():
        more = ("train.trainer.max_epochs=1", "train.trainer.limit_train_batches=2")
        assert train(data, folder / "kept", *more) == 0
    return folder / "kept"


class _Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def edited(change: Callable[[dict[str, Any], Path], object]) -> Callable[[Path, Path], None]:
    """Damage to what a checkpoint holds; the second path must not come to be."""

    def damage(path: Path, never: Path) -> None:
        content = torch.load(path, weights_only=True)
        change(content, never)
        torch.save(content, path)

    return damage


def cut(share: float) -> Callable[[Path, Path], None]:
    return lambda path, never: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)]) and None


def flipped(path: Path, never: Path) -> None:
    """One bit of the last of Adam's moments: PyTorch reads them without a look at their checksums."""
    with zipfile.ZipFile(path) as archive:
        large = [one for one in archive.infolist() if "/data/" in one.filename and one.file_size > 2000]
        offset = max(one.header_offset for one in large)
    content = bytearray(path.read_bytes())
    content[offset + 1000] ^= 1
    path.write_bytes(content)


def loops(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["loops"]["fit_loop"]
    return found


def best_of(content: dict[str, Any]) -> dict[str, Any]:
    """The state of what keeps the best epochs."""
    (found,) = (state for key, state in content["callbacks"].items() if key.startswith("ModelCheckpoint"))
    assert isinstance(found, dict)
    return found


def first(content: dict[str, Any]) -> dict[Any, Any]:
    """The optimizer's state by parameters."""
    found: dict[Any, Any] = content["optimizer_states"][0]["state"]
    return found


def group(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["optimizer_states"][0]["param_groups"][0]
    return found


VERSION = "pytorch-lightning_version"
VECTOR = torch.zeros(4)
#: Pure data, in forms that Lightning or torch would fail at.
FORMS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "callback": (lambda content: content["callbacks"].update(dict.fromkeys(content["callbacks"], "x")), "is 'x'"),
    "no callback": (lambda content: best_of(content).clear(), "is missing"),
    "best": (lambda content: best_of(content).update(best_k_models=3), "best_k_models is 3"),
    "best name": (lambda content: best_of(content).update(best_k_models={3: 1.0}), "best_k_models names 3"),
    "best score": (lambda content: best_of(content).update(best_k_models={"x": VECTOR}), "x is tensor("),
    "state": (lambda content: first(content).update({0: 3}), "state.0 is 3"),
    "state name": (lambda content: first(content).update(x=3), "state.x is of no weight"),
    "moment": (lambda content: first(content)[0].pop("exp_avg"), "state.0.exp_avg is missing"),
    "step": (lambda content: first(content)[0].update(step=torch.tensor(-1.0)), "state.0.step is -1"),
    "rates": (lambda content: group(content).update(lr=VECTOR), "param_groups.0.lr is tensor("),
    "parameters": (lambda content: group(content)["params"].reverse(), "params does not number"),
    "epochs": (lambda content: content.update(malice_max_epochs=VECTOR), "malice_max_epochs is tensor("),
    "order": (lambda content: content["malice_order"].update(seed=VECTOR), "malice_order.seed is tensor("),
    "version": (lambda content: content.update({VERSION: "9.x"}), "lightning_version is '9.x'"),
    "version number": (lambda content: content.update({VERSION: 3}), "lightning_version is 3"),
    "epoch": (lambda content: content.update(epoch=10**9), "epoch is 1e+09"),
    "steps": (lambda content: content.update(global_step=10**9, epoch=10**9), "global_step is 1e+09"),
    "done": (lambda content: loops(content)["epoch_progress"]["current"].update(processed=10**9), "progress is 1e+09"),
    "other version": (
        lambda content: (content.update({VERSION: "2.1.0"}), group(content).update(lr=VECTOR)),
        "param_groups.0.lr is tensor(",
    ),
    "other version's schedule": (
        lambda content: (content.update({VERSION: "2.1.0"}), content["lr_schedulers"][0].update(T_cur="x")),
        "T_cur is 'x'",
    ),
    "other version's best": (
        lambda content: (content.update({VERSION: "2.1.0"}), best_of(content).update(best_k_models=3)),
        "best_k_models is 3",
    ),
}


WHOLE_FILE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "empty": (cut(0), "this is empty"),
    "half": (cut(0.5), "damaged, cut off or no checkpoint"),
    "nearly whole": (cut(0.999), "damaged, cut off or no checkpoint"),
    "pickle": (lambda path, never: path.write_bytes(pickle.dumps(_Touch(never))) and None, "these are zip archives"),
    "no weights": (edited(lambda content, never: content.pop("state_dict")), "holds more than tensors"),
}
STATE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "flipped": (flipped, "the checksum of"),
    "crafted": (
        edited(lambda content, never: content["loops"].update(more=_Touch(never))),
        "more than numbers and text",
    ),
    "no loops": (edited(lambda content, never: content.pop("loops")), "loops is missing"),
    "progress": (
        edited(lambda content, never: loops(content)["epoch_progress"]["current"].update(processed="x")),
        "epoch_progress.current.processed is 'x'",
    ),
    "batches": (
        edited(lambda content, never: loops(content).update(state_dict={"combined_loader": [{"epoch": 0}]})),
        "combined_loader.0.batches is missing",
    ),
    "moments": (
        edited(lambda content, never: content["optimizer_states"][0]["state"][0].update(exp_avg=torch.zeros(3))),
        "optimizer_states.0.state.0.exp_avg does not have the shape",
    ),
    "rate": (
        edited(lambda content, never: content["optimizer_states"][0]["param_groups"][0].update(lr="x")),
        "param_groups.0.lr is 'x'",
    ),
    "schedule": (edited(lambda content, never: content["lr_schedulers"][0].pop("T_cur")), "T_cur is missing"),
    "patience": (
        edited(lambda content, never: [one.pop("wait_count", 0) for one in content["callbacks"].values()]),
        "wait_count is missing",
    ),
    "diverged": (
        edited(lambda content, never: content["state_dict"]["model.encoder.common_temp_proj.Q"].fill_(float("nan"))),
        "common_temp_proj.Q is not finite",
    ),
}


def of_form(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], None]:
    return edited(lambda content, never: change(content))


STATE |= {f"form: {name}": (of_form(change), told) for name, (change, told) in FORMS.items()}


@pytest.mark.parametrize("damage", [*WHOLE_FILE, *STATE])
def test_a_damaged_checkpoint_is_not_gone_on_with(
    damage: str, kept: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(kept, tmp_path / "run"))
    do, told = (WHOLE_FILE | STATE)[damage]
    do(run / "checkpoints" / "last.ckpt", tmp_path / "never")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert resume(run, "train.trainer.max_epochs=2") == 2
    line = one_line(capfd)
    assert told in line
    assert "last.ckpt" in line
    assert "begin a new run" in line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "never").exists()


def test_a_run_of_another_version_goes_on(kept: Path, tmp_path: Path) -> None:
    """Versions of Lightning and torch before these did not write all that these do."""
    run = Path(shutil.copytree(kept, tmp_path / "run"))

    def older(content: dict[str, Any]) -> None:
        content[VERSION] = "2.1.0"
        content["lr_schedulers"][0].pop("_is_initial", None)
        group(content).pop("decoupled_weight_decay", None)
        for state in content["callbacks"].values():
            state.pop("stopping_reason", None)

    of_form(older)(run / "checkpoints" / "last.ckpt", tmp_path / "never")
    assert resume(run, "train.trainer.max_epochs=2") == 0


@pytest.mark.parametrize("damage", WHOLE_FILE)
@pytest.mark.parametrize("command", ["export", "import"])
def test_a_damaged_checkpoint_becomes_no_model(
    damage: str,
    command: str,
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MALICE_MODELS", f"{tmp_path / 'store'}")
    path = Path(shutil.copy(kept / "checkpoints" / "last.ckpt", tmp_path))
    do, told = WHOLE_FILE[damage]
    do(path, tmp_path / "never")
    given = [f"{path}", "--name", "x"]
    code = cli.run_command(export.parser(), given) if command == "export" else models.main(["import", *given])
    assert code == 2
    line = one_line(capfd)
    assert told in line
    assert f"{path}" in line
    assert damage == "no weights" or "give another checkpoint" in line
    assert not list((tmp_path / "store").rglob("*"))
    assert not (tmp_path / "never").exists()


def test_tags_of_a_run_are_a_list(kept: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(kept, tmp_path / "run"))
    (run / "model_card.json").write_text('{"tags": 3}')
    assert cli.run_command(export.parser(), [f"{run / 'checkpoints' / 'last.ckpt'}", "--name", "x"]) == 2
    assert "tags are 3, must be a list" in one_line(capfd)


def test_a_run_that_ended_before_its_first_checkpoint(
    kept: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(kept, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints")
    assert resume(run) == 2
    assert "before its first checkpoint" in one_line(capfd)
    # Nor does a new one point to a resume that cannot be.
    assert train(kept.parent / "d.zarr", run) == 2
    line = one_line(capfd)
    assert "nothing was saved in it, it may be removed" in line
    assert "train.resume" not in line
