"""Fine-tuning from the command line: runs, their classifiers, prediction, resuming, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("torchmetrics")

from helpers_embed import Recorder, embedded, free_names  # noqa: E402
from helpers_finetune import classes, in_process, settings, tune, write_pastis, write_scene  # noqa: E402
from helpers_pretrain import ROOT, assert_same, one_line, state  # noqa: E402

from malice_core import classifier, cli, finetune, models, runtime  # noqa: E402
from malice_core.cancelling import Cancel  # noqa: E402
from malice_core.training.finetuning import module, start  # noqa: E402

pytestmark = pytest.mark.usefixtures("tuning")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pastis(tmp_path_factory.mktemp("pastis") / "p")


def optical(scene: Path) -> list[str]:
    return [f"data.labels={scene / 'labels.tif'}", f"data.s2={scene / 'S2'}"]


@pytest.fixture(scope="module")
def frozen(scene: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the head on embeddings of both sensors."""
    folder = tmp_path_factory.mktemp("runs") / "frozen"
    with in_process(store):
        more = ["head=linear", "train.trainer.max_epochs=12", "train.lr=0.005"]
        assert tune(folder, *optical(scene), f"data.s1={scene / 'S1'}", *more) == 0
    return folder


def predict(run: Path, output: Path, *given: object) -> int:
    """The command line in this process, without its signal handlers."""
    parser = finetune.predict_parser()
    parser.set_defaults(run=lambda options: finetune.predict(options, Recorder(), Cancel()))
    return cli.run_command(parser, [*map(str, (run, "--output", output, "--threads", 1, *given))])


def read(path: Path) -> np.ndarray[Any, Any]:
    with rasterio.open(path) as file:
        values: np.ndarray[Any, Any] = file.read()
    return values


# A run


def test_a_run_leaves_scores_and_a_classifier(frozen: Path, scene: Path) -> None:
    names = {path.name for path in frozen.iterdir()}
    wanted = {".hydra", ".lock", "checkpoints", "classifier", "config.yaml", "curves.csv", "run.json", "scores.json"}
    assert names == wanted
    found = classifier.read(frozen)
    assert ([one.code for one in found.classes], found.nodata, found.sensors) == ([1, 2, 3], 0, ("s2", "s1"))
    scores = json.loads((frozen / "scores.json").read_text())
    for split in ("val", "test"):
        table = scores[split]
        confusion = np.array(table["confusion"])
        assert confusion.sum() == table["pixels"] == sum(one["pixels"] for one in table["classes"].values())
        assert table["mean"]["overall"] == pytest.approx(np.trace(confusion) / confusion.sum())
        hits = np.diag(confusion)
        iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
        np.testing.assert_allclose([one["iou"] for one in table["classes"].values()], iou, atol=1e-6)
        assert table["mean"]["iou"] == pytest.approx(iou.mean(), abs=1e-6)
        assert table["mean"]["f1"] > 0.8  # fields that look different are told apart
    config = yaml.safe_load((frozen / "config.yaml").read_text())
    assert config["data"]["labels"] == f"{scene / 'labels.tif'}"


def test_the_best_epoch_is_taken(frozen: Path) -> None:
    (best,) = (frozen / "checkpoints").glob("best-*.ckpt")
    scores = json.loads((frozen / "scores.json").read_text())
    assert best.name == f"best-{scores['best_epoch']:03d}-{scores['val']['mean']['iou']:.4f}.ckpt"


def test_a_frozen_encoder_stays_what_it_was(frozen: Path) -> None:
    """Bit for bit, and the checkpoint holds the head alone."""
    ours, theirs = classifier.read(frozen).card, models.load("tiny")
    assert ours.identity == theirs.identity
    for sensor in ours.modalities:
        for role in ("spatial", "temporal"):
            assert ours.graph_bytes(sensor, role) == theirs.graph_bytes(sensor, role)
    assert all(name.startswith("head.") for name in state(frozen)["state_dict"])


def test_full_training_changes_the_encoder_and_its_graphs_follow(scene: Path, tmp_path: Path) -> None:
    """The rasters of a run whose encoder was trained hold what torch computes on the labelled pixels."""
    run = tmp_path / "run"
    more = ["mode=full", "train.trainer.max_epochs=1", "train.batch_size=1", "train.encoder_lr=0.001"]
    assert tune(run, *optical(scene), *more) == 0
    found = classifier.read(run)
    assert found.card.identity != models.load("tiny").identity
    assert set(found.card.modalities) == {"s2"}
    assert predict(run, tmp_path / "c.tif", "--s2", scene / "S2") == 0
    # The run's own scores, out of the raster.
    from malice_core.training.finetuning.sites import Site

    site = Site(settings(*optical(scene)), ("s2",))
    target = site.target(0, "test")
    site.close()
    whole = np.zeros(target.shape, int)
    whole[: classes().shape[0], : classes().shape[1]] = read(tmp_path / "c.tif")[0]
    known = target >= 0
    overall = (whole[known] - 1 == target[known]).mean()
    scores = json.loads((run / "scores.json").read_text())
    assert overall == pytest.approx(scores["test"]["mean"]["overall"], abs=1.5 / known.sum())


def test_a_pastis_folder_is_trained_on(patches: Path, tmp_path: Path) -> None:
    assert tune(tmp_path / "run", f"data.pastis={patches}", "data.max_pixels=300") == 0
    assert [one.name for one in classifier.read(tmp_path / "run").classes][:2] == ["background", "meadow"]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["pixels"]["train"] > 300


# Prediction


def test_the_raster_is_the_same_whatever_the_block(frozen: Path, scene: Path, tmp_path: Path) -> None:
    images = ["--s2", scene / "S2", "--s1", scene / "S1", "--aoi", 500030, 5599750, 500450, 5599990]
    made = []
    for block in (24, 64):
        output, shares = tmp_path / f"c{block}.tif", tmp_path / f"p{block}.tif"
        counts = tmp_path / f"n{block}.tif"
        more = ["--block", block, "--probabilities", shares, "--counts", counts]
        assert predict(frozen, output, *images, *more) == 0
        made.append([read(path) for path in (output, shares, counts)])
    for one, other in zip(*made, strict=True):
        np.testing.assert_array_equal(one, other)
    # What the head says of the embeddings that embed writes.
    values = embedded(tmp_path / "e.tif", *images, "--model", "tiny", "--block", 64, "--threads", 1)
    features = values.reshape(1280, -1).T.copy()
    session = runtime.choose("onnxruntime", "cpu").open(classifier.read(frozen).graph, {"embedding": features.shape})
    logits = session.run({"embedding": features})
    np.testing.assert_array_equal(made[0][0].ravel(), logits.argmax(axis=1) + 1)
    powers = np.exp(logits.astype(np.float64))
    percents = 100 * powers / powers.sum(axis=1, keepdims=True)
    assert np.abs(made[0][1].reshape(3, -1).T - percents).max() <= 0.51
    with rasterio.open(tmp_path / "c24.tif") as file:
        assert (file.dtypes, file.nodata, file.descriptions) == (("uint8",), 0, ("class",))
        named = json.loads(file.tags()["MALICE_CLASSES"])
        assert named["2"]["name"] == "2"
        assert "#{:02x}{:02x}{:02x}".format(*file.colormap(1)[2][:3]) == named["2"]["colour"]
        assert file.tags()["MALICE_DATES_S2"].count(",") == 2
    assert not list(tmp_path.glob("*.malice"))


def test_prediction_needs_no_torch(frozen: Path, scene: Path, tmp_path: Path) -> None:
    """The command line in a process where torch and its companions cannot be imported."""
    program = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'lightning', 'hydra', 'omegaconf', 'torchmetrics'):\n"
        "            raise ImportError(f'{name} is blocked')\n"
        "sys.meta_path.insert(0, Block())\n"
        "from malice_core import finetune\n"
        "sys.exit(finetune.main(sys.argv[1:]))\n"
    )
    given = ["predict", frozen, "--s2", scene / "S2", "--s1", scene / "S1", "--output", tmp_path / "c.tif"]
    command = [sys.executable, "-c", program, *map(str, given), "--progress", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "done"
    assert (read(tmp_path / "c.tif")[0] == classes()).mean() > 0.8


def test_pixels_that_a_sensor_never_saw_are_nodata(frozen: Path, scene: Path, tmp_path: Path) -> None:
    for path in sorted((scene / "S1").glob("*.tif")):
        shutil.copy(path, tmp_path)
        with rasterio.open(tmp_path / path.name, "r+") as file:
            values = file.read()
            values[:, 4:7, 9:12] = np.nan
            file.write(values)
    (tmp_path / "S1").mkdir()
    for path in tmp_path.glob("*.tif"):
        path.rename(tmp_path / "S1" / path.name)
    assert predict(frozen, tmp_path / "c.tif", "--s2", scene / "S2", "--s1", tmp_path / "S1") == 0
    missing = read(tmp_path / "c.tif")[0] == 0
    assert missing[4:7, 9:12].all()
    assert missing.sum() == 9


def test_what_prediction_refuses(frozen: Path, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    both = ["--s2", scene / "S2", "--s1", scene / "S1"]
    output = tmp_path / "c.tif"

    def told(run: Path, *given: object) -> str:
        capfd.readouterr()
        assert predict(run, output, *given) == 2
        return one_line(capfd)

    assert "give --s1 too" in told(frozen, "--s2", scene / "S2")
    assert "holds no classifier" in told(tmp_path, *both)
    assert "--probabilities" in told(frozen, *both, "--probabilities", output)
    assert "--probabilities" in told(frozen, *both, "--probabilities", tmp_path / "p.png")
    assert "--model" in told(frozen, *both, "--model", "tiny")
    run = tmp_path / "run"
    shutil.copytree(frozen / "classifier", run / "classifier")
    damaged = run / "classifier" / "head.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-5] + b"12345")
    assert "head.onnx is damaged" in told(run, *both)
    description = run / "classifier" / "classifier.json"
    content = json.loads(description.read_text())
    for change, said in (
        ({"classes": content["classes"][:1]}, "two or more"),
        ({"classes": [{**content["classes"][0], "colour": "red"}]}, "#rrggbb"),
        ({"nodata": 1}, "nodata"),
        ({"sensors": ["s1", "s2"]}, "sensors"),
        ({"encoder": "0"}, "another encoder"),
        ({"schema": 2}, "schema"),
        ({"provenance": 3}, "provenance"),
    ):
        description.write_text(json.dumps(content | change))
        assert said in told(run, *both)
    shutil.copy(frozen / "classifier" / "head.onnx", damaged)
    description.write_text(json.dumps(content | {"sensors": ["s2"]}))
    assert "inputs and outputs" in told(run, *both[:2])
    description.write_text("{")
    assert "classifier.json" in told(run, *both)
    assert free_names(tmp_path) == ["run"]


def test_an_output_that_is_there_is_kept(
    frozen: Path, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.tif").write_text("mine")
    assert predict(frozen, tmp_path / "c.tif", "--s2", scene / "S2", "--s1", scene / "S1") == 2
    assert "--overwrite" in one_line(capfd)
    assert (tmp_path / "c.tif").read_text() == "mine"


# Stopping and going on


@pytest.mark.parametrize("mode", ["frozen", "full"])
def test_a_stopped_run_goes_on_bit_for_bit(
    mode: str, patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    epochs = 1 if mode == "full" else 2
    more = [f"data.pastis={patches}", f"mode={mode}", f"train.trainer.max_epochs={epochs}", "train.batch_size=1"]
    more += ["data.sensors=[s2]"] if mode == "full" else []
    assert tune(tmp_path / "whole", *more) == 0
    step, calls = module.TuningModule.training_step, []

    def stopping(self: Any, *given: Any) -> Any:
        calls.append(given)
        if len(calls) == (2 if mode == "full" else 6):
            signal.raise_signal(signal.SIGTERM)
        return step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(module.TuningModule, "training_step", stopping)
        capfd.readouterr()
        assert tune(tmp_path / "run", *more) == 3
    assert "train.resume" in one_line(capfd)
    assert not (tmp_path / "run" / "classifier").exists()
    assert cli.run_command(finetune.parser(), [f"train.resume={tmp_path / 'run'}"]) == 0
    assert_same(state(tmp_path / "whole"), state(tmp_path / "run"))
    assert classifier.read(tmp_path / "run").identity == classifier.read(tmp_path / "whole").identity
    assert not list((tmp_path / "run").rglob("*.part"))


def test_a_full_disk_leaves_no_half_classifier(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(start.classifier, "write", full)
        assert tune(run, f"data.pastis={patches}", "train.trainer.max_epochs=1") == 2
    assert "No space left" in one_line(capfd)
    assert not [name for name in free_names(run) if "classifier" in name]
    assert cli.run_command(finetune.parser(), [f"train.resume={run}"]) == 0
    assert len(classifier.read(run).classes) == 3


def test_a_run_is_resumed_with_its_own_data_only(
    frozen: Path, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(frozen, run)
    assert cli.run_command(finetune.parser(), [f"train.resume={run}", "data.guard=0"]) == 2
    assert "hash" in one_line(capfd)
    assert cli.run_command(finetune.parser(), [f"train.resume={run}", "head.kind=master_query", "head.heads=4"]) == 2
    assert "another architecture" in one_line(capfd)
    assert cli.run_command(finetune.parser(), [f"train.resume={run}"]) == 0


# What is refused


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("train.learning_rate=1", "no key train.learning_rate"),
        ("mode=half", "frozen, full"),
        ("head=deep", "master_query"),
        ("head.heads=7", "must divide 64"),
        ("train.crop_size=20", "multiple of 8"),
        ("train.monitor=kappa", "iou, f1, accuracy"),
        ("data.folds=2", "data.folds=2"),
        ("data.block=100", "data.folds"),
        ("data.labels=none.tif", "none.tif"),
        ("data.labels=null", "no labels"),
        ("data.s2=null", "without images"),
        ("data.s2=[1,2]", "data.s2"),
        ("data.s2=5", "data.s2=5 must be a path"),
        ("data=null", "data=null"),
        ("data.pastis=x", "leave out data.labels"),
        ("data.max_cloud=20", "data.scl"),
        ("data.s1_orbit=5", "data.s1"),
        ("data.dates=2031-01-01/2031-02-01", "2031"),
        ("ignore_index=word", "ignore_index"),
        ("class_names={a: b}", "class_names"),
        ("class_names=wheat", "class_names"),
        ("model=nothing", "nothing is not installed"),
        ("model=none.ckpt", "none.ckpt"),
        ("train.resume=nowhere", "nowhere"),
        ("train.trainer.accelerator=cuda", "train.trainer"),
    ],
)
def test_a_wrong_value_is_one_line(
    given: str, told: str, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available() and given.startswith("train.trainer."):
        pytest.skip("there is a GPU")
    assert tune(tmp_path / "run", *optical(scene), given) == 2
    line = one_line(capfd)
    assert told in line
    assert len(line) < 700
    assert not (tmp_path / "run").exists()


def test_a_failure_is_one_line_whatever_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file name may hold a line break."""
    assert finetune.main(["predict", f"{tmp_path}/a\nb", "--s2", "x", "--output", f"{tmp_path / 'c.tif'}"]) == 2
    assert "a b holds no classifier" in one_line(capfd)
    assert cli.run_command(finetune.parser(), [f'train.resume="{tmp_path}/a\nb"']) == 2
    assert "a b" in one_line(capfd)


def test_names_that_a_terminal_cannot_show_end_no_run(scene: Path, tmp_path: Path) -> None:
    """The run tells its folder, whose name has a letter that the encoding of its output lacks."""
    more = ['class_names={1: "maïs", 9: "小麦"}', "train.trainer.max_epochs=1"]
    code = "import sys, helpers_finetune as h; sys.exit(h.tune(sys.argv[1], *sys.argv[2:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, f'"{tmp_path}/été"', *optical(scene), *more, "head=linear"],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [one.name for one in classifier.read(tmp_path / "été").classes] == ["maïs", "2", "3"]


@pytest.mark.parametrize(
    "content", [b"train: [1\nlr: {", b"train:\n\tlr: 1", b"name: \xe9", b"name: !!python/name:os.system"]
)
def test_files_that_are_no_yaml_are_one_line(
    content: bytes, scene: Path, frozen: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of the user's own, and of a run that is to go on."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_bytes(b"# @package _global_\n" + content)
    assert cli.run_command(finetune.parser(), ["--config-dir", f"{tmp_path}", "experiment=mine", *optical(scene)]) == 2
    assert "no YAML" in one_line(capfd)
    run = shutil.copytree(frozen, tmp_path / "run")
    (run / "config.yaml").write_bytes(content)
    assert cli.run_command(finetune.parser(), [f"train.resume={run}"]) == 2
    assert "no YAML" in one_line(capfd)


def test_foreign_checkpoints_are_never_unpickled(
    scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"state_dict": {"encoder_s2.x": torch.zeros(1)}, "trap": Trap()}, tmp_path / "bad.ckpt")
    assert tune(tmp_path / "run", *optical(scene), f"model={tmp_path / 'bad.ckpt'}") == 2
    assert "bad.ckpt" in one_line(capfd)
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_of_pretraining_can_be_begun_with(scene: Path, patches: Path, tmp_path: Path) -> None:
    from malice_core.training.module import PretrainingModule

    torch.manual_seed(3)
    network = PretrainingModule()
    content = {"state_dict": network.state_dict(), "hyper_parameters": dict(network.hparams)}
    torch.save(content, tmp_path / "p.ckpt")
    more = [f"model={tmp_path / 'p.ckpt'}", "train.trainer.max_epochs=1", "class_names={1: wheat}"]
    assert tune(tmp_path / "run", f"data.pastis={patches}", "data.sensors=[s2]", *more) == 0
    found = classifier.read(tmp_path / "run")
    assert found.classes[1].name == "wheat"
    assert predict(tmp_path / "run", tmp_path / "c.tif", "--s2", scene / "S2") == 0


def test_the_configuration_can_be_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert finetune.main(["--cfg", "train.lr=0.5", "head=linear"]) == 0
    shown = yaml.safe_load(capfd.readouterr().out)
    assert (shown["train"]["lr"], shown["head"]["kind"], shown["mode"]) == (0.5, "linear", "frozen")
