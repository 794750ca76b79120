"""Makes the models for trying out, ``models/malice-sim`` and ``models/malice-aux-sim``, from a seed: ``make models``.

Simulates scenes, builds patches of them, pre-trains each model on these (``experiment=sim``, ``sim_aux``), exports,
and, where MALICE_TESTDATA has labelled real images, scores the models beside untrained weights, the published networks
and the raw bands. Everything lies below ``--work``; what is finished there is not done again, and a training that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from malice_core.patches.store import Dataset
from malice_core.store.statistics import AUX, MALICE
from malice_core.training import runfolder, starting
from malice_core.training.ablation import SHUFFLED
from malice_core.training.callbacks import read_curves
from malice_core.training.malice import Malice


@dataclass(frozen=True)
class Kind:
    """One model that is made.

    Attributes:
        training: arguments of ``malice_core.pretrain``.
        auxiliary: whether it is MALICE Aux.
        untrained: names of models with weights that no training has touched, by what they begin as: as published ones
            do, and as those of ``experiment=sim`` do.
    """

    training: tuple[str, ...]
    auxiliary: bool
    untrained: dict[str, str]


KINDS = {
    "malice-sim": Kind(("experiment=sim",), False, {"random": "random", "untrained": "seasons"}),
    "malice-aux-sim": Kind(
        ("--config-name", "pretrain_proj_aux", "experiment=sim_aux"),
        True,
        {"random-aux": "random", "untrained-aux": "seasons"},
    ),
}
#: Of the weights no training has touched.
SEED = 0
#: Images of the real site, by sensor.
SITES = {"s2": "S2", "s1": "S1_10m"}
ROOT = Path(__file__).resolve().parents[1]


def module(name: str, *arguments: object, store: Path | None = None) -> str:
    """Runs one of the package's commands, shows what it says on stderr, and returns its stdout."""
    environment = {**os.environ, **({"MALICE_MODELS": f"{store}"} if store else {})}
    command = [sys.executable, "-m", f"malice_core.{name}", *map(str, arguments)]
    print("$", " ".join(command[1:]), flush=True)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        # The command has said what is wrong.
        sys.exit(done.returncode)
    return done.stdout


def train(work: Path, name: str, overrides: list[str]) -> Path:
    """The run folder of the finished training."""
    run, patches = work / "runs" / name, work / "patches.zarr"
    if (run / runfolder.CHECKPOINTS / runfolder.LAST).exists():
        given = [f"train.resume={run}", *overrides]
    else:
        given = [*KINDS[name].training, f"dataset.path={patches}", f"hydra.run.dir={run}", f"name={name}", *overrides]
    command = [sys.executable, "-m", "malice_core.pretrain", *given]
    print("$", " ".join(command[1:]), flush=True)
    code = subprocess.run(command).returncode
    if code:
        sys.exit(code)
    return run


def describe(run: Path, more: dict[str, str]) -> None:
    """Puts curve and scores where export looks for the texts of the card."""
    path = run / runfolder.CARD
    card = json.loads(path.read_text(encoding="utf-8"))
    rows = [row for row in read_curves(run) if "val/rec_vs_median" in row]
    curve = ", ".join(f"{row['epoch']}: {row['val/rec_vs_median']:.3f}" for row in rows)
    card |= {"curve": f"error of reconstruction over that of the median, validation, by epoch: {curve}", **more}
    if f"val/{SHUFFLED[1]}" in rows[-1]:
        true, shuffled = (rows[-1][f"val/{name}"] for name in ("rec", SHUFFLED[1]))
        card["weather"] = (
            f"error of reconstruction in validation {true:.5f}, with the weather of other dates {shuffled:.5f}"
        )
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def export(run: Path, name: str, store: Path) -> None:
    """The last weights: the schedule of ``experiment=sim`` ends with its lowest learning rate."""
    store.mkdir(parents=True, exist_ok=True)
    last = run / runfolder.CHECKPOINTS / runfolder.LAST
    print(module("export", last, "--name", name, "--float16", "--overwrite", store=store), end="")


def untrained(work: Path, store: Path, name: str, start: str, auxiliary: bool) -> None:
    """A model with weights that training begins with."""
    torch.manual_seed(SEED)
    known = AUX if auxiliary else MALICE
    network = Malice({sensor: len(part.channels) for sensor, part in known.items()}, auxiliary=auxiliary)
    starting.start(network, start)
    state = {key: value.numpy() for key, value in network.encoder.state_dict().items()}
    np.savez(work / f"{name}.npz", **state)
    module("export", work / f"{name}.npz", "--name", name, "--overwrite", store=store)


def around(site: Path, sensor: str) -> tuple[object, ...]:
    """Options for weather, terrain and angles of the real site, as far as it has them."""
    angles = ("--s2-angles", site / "S2_dates.csv") if sensor == "s2" else ("--angles", "median")
    # The first image is of the table's first day, and its weather begins four days before.
    weather = ("--weather", site / "AGERA5_daily.csv", "--weather-gaps", "nearest")
    return (*weather, "--dem", site / "DEM_COPDEM30_10m.tif", *angles)


def score(work: Path, store: Path, name: str, testdata: Path) -> dict[str, str]:
    """Texts for the card: macro F1 of crop types at a real site no model here was trained on.

    All dates, both bands of labels' raster as they are; the same spatial folds for all (``malice_core.evaluate``).
    """
    site, kind = testdata / "data" / "site_a", KINDS[name]
    for other, start in kind.untrained.items():
        untrained(work, store, other, start, kind.auxiliary)
    names = [name, *kind.untrained]
    encoders = [testdata / "models" / f"malice_{sensor}.onnx" for sensor in MALICE]
    if all(path.exists() for path in encoders):
        module("models", "import", *encoders, "--name", "malice", "--overwrite", store=store)
        names.append("malice")
    texts = {}
    for sensor, folder in SITES.items():
        sets = []
        for one in names:
            sets.append(work / f"{one}_{sensor}.tif")
            more = around(site, sensor) if kind.auxiliary and one != "malice" else ()
            given = (f"--{sensor}", site / folder, *more, "--model", one, "--output", sets[-1], "--overwrite")
            module("embed", *given, store=store)
        labels = ("--labels", site / "LABELS_LC_CT.tif", "--band", 2, "--json")
        found = json.loads(module("evaluate", *sets, site / folder, *labels))
        (work / f"scores_{name}_{sensor}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        texts[f"probe_{sensor}"] = told(found, sensor, kind)
        print(texts[f"probe_{sensor}"], flush=True)
    return texts


def told(found: dict[str, Any], sensor: str, kind: Kind) -> str:
    """The scores of ``malice_core.evaluate`` in a sentence, and what training has to do with them."""
    parts = []
    for name, one in found["sets"].items():
        short = Path(name).stem.removesuffix(f"_{sensor}").replace(SITES[sensor], "raw bands")
        parts.append(f"{short} {one['linear']['mean']:.3f} / {one['neighbours']['mean']:.3f}")
    differences = [
        f"{name} {one['mean']:+.3f} ± {one['half_of_95']:.3f} ({one['probe']})"
        for name in kind.untrained
        for one in found["differences"]
        if Path(one["to"]).stem == f"{name}_{sensor}"
    ]
    return (
        "linear probe / nearest neighbours of crop types, macro F1 over spatial folds of a real site in Flanders: "
        f"{', '.join(parts)}; differences to weights before training, with 95 % intervals that allow for folds sharing "
        f"what they are trained on: {', '.join(differences)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the models for trying out from nothing but a seed.")
    parser.add_argument("--work", type=Path, default=Path("build") / "models", help="folder for scenes, patches, runs")
    parser.add_argument("--store", type=Path, default=ROOT / "models", help="where the models go")
    parser.add_argument("--scenes", type=int, default=320)
    parser.add_argument("--size", type=int, default=128, help="of a scene, pixels")
    parser.add_argument("--model", choices=KINDS, action="append", help="make only this one; repeatable")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the configuration of pre-training")
    given = parser.parse_args()
    work: Path = given.work
    work.mkdir(parents=True, exist_ok=True)
    module("simulate", "--scenes", given.scenes, "--size", given.size, "--out", work / "scenes")
    built = work / "patches.zarr"
    if not built.exists() or len(Dataset(built).places) < given.scenes:
        patches = ("--patch", given.size, "--split", "0.92/0.08/0", "--output", built, "--resume")
        module("dataset", "build", "--places", work / "scenes", *patches)
    testdata = os.environ.get("MALICE_TESTDATA")
    for name in given.model or KINDS:
        run = train(work, name, given.overrides)
        describe(run, {})
        export(run, name, work / "store")
        if testdata:
            describe(run, score(work, work / "store", name, Path(testdata)))
        export(run, name, given.store)


if __name__ == "__main__":
    main()
