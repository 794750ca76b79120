"""What ``classify`` and ``regress`` share: their options, and the run from labels to map and report."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from malice_core import flags
from malice_core.analysis import command
from malice_core.analysis.command import SEED, Run, add_seed, tags
from malice_core.analysis.learning import METHODS, WEIGHTS
from malice_core.errors import InputError

if TYPE_CHECKING:
    from malice_core.analysis.embedding import Embedding
    from malice_core.analysis.result import Outputs
    from malice_core.analysis.saved import Trained
    from malice_core.analysis.training import Learnt, Settings

#: Folds unless another number is given.
FOLDS = 5
#: Options that are of training only.
TRAINING = (
    *("field", "method", "folds", "fold_size", "per_place", "per_class", "pixels", "class_weights", "seed"),
    *("report", "report_json", "save_classifier"),
)


def add_options(p: argparse.ArgumentParser, numeric: bool) -> None:
    """Labels, method, test and what is written of them."""
    what = "numbers" if numeric else "classes"
    g = p.add_argument_group("labels")
    one = g.add_mutually_exclusive_group(required=True)
    one.add_argument(
        "--labels", type=flags.path, metavar="FILE", help=f"points or polygons with {what}: .geojson, .gpkg"
    )
    one.add_argument(
        "--classifier", type=command.path, metavar="FILE.skops", help="apply one that --save-classifier wrote"
    )
    g.add_argument("--field", type=flags.path, metavar="NAME", help=f"the attribute with the {what}")
    g.add_argument("--per-place", type=flags.count, metavar="N", help="pixels of a polygon at most, default 50")
    g = p.add_argument_group("learning")
    g.add_argument("--method", choices=METHODS, help="default linear")
    g.add_argument("--folds", type=_folds, metavar="N", help=f"spatial folds to test on, default {FOLDS}; 0: no test")
    g.add_argument("--fold-size", type=_metres, metavar="METRES", help="side of their squares (default: by the labels)")
    add_seed(p)
    # Told from one that was not given, which --classifier asks for.
    p.set_defaults(seed=None)
    g = p.add_argument_group("what else to write")
    g.add_argument(
        "--report", type=command.path, metavar="FILE.html", help="accuracy on the held-out folds, to be read"
    )
    g.add_argument("--report-json", type=command.path, metavar="FILE.json", help="the same for programs")
    g.add_argument(
        "--save-classifier", type=command.path, metavar="FILE.skops", help="for other areas of the same year"
    )
    if numeric:
        g = p.add_argument_group("of numbers")
        g.add_argument("--pixels", type=flags.count, metavar="N", help="labelled pixels at most, default 10000")
    else:
        g = p.add_argument_group("of classes")
        g.add_argument("--per-class", type=flags.count, metavar="N", help="pixels of a class at most, default 1000")
        g.add_argument(
            "--class-weights", choices=WEIGHTS, help="balanced (default): rare classes weigh as much; not for knn"
        )
        g.add_argument(
            "--probability", type=command.path, metavar="FILE.tif", help="also write the winning class' probability"
        )


def _folds(text: str) -> int:
    return int(text) if text == "0" else int(flags.number(text, int, 2, 1000, "0, or a number of folds from 2 on"))


def _metres(text: str) -> float:
    return float(flags.number(text, float, 1, 1e6, "a side in metres, 1 to 1000000"))


def run(options: argparse.Namespace, run: Run, numeric: bool) -> None:
    """The work of both command lines."""
    from malice_core import vectors
    from malice_core.analysis import learning, likeness, predicting, result, saved, training
    from malice_core.analysis.embedding import Embedding
    from malice_core.job import SUFFIXES

    tool = "regress" if numeric else "classify"
    probability: Path | None = getattr(options, "probability", None)
    asked = {
        "--output": (options.output, SUFFIXES["gtiff"]),
        "--probability": (probability, SUFFIXES["gtiff"]),
        "--report": (options.report, (".html", ".htm")),
        "--report-json": (options.report_json, (".json",)),
        "--save-classifier": (options.save_classifier, (saved.SUFFIX,)),
    }
    for option, (path, suffixes) in asked.items():
        if path is not None:
            result.require_suffix(option, path, suffixes)
    labels = None if options.labels is None else vectors.source(options.labels)
    if labels is None:
        _require_no_training(options)
    elif options.save_classifier is not None:
        saved.require()
    embedding = Embedding.open(options.input)
    inputs = [*embedding.files, options.classifier if labels is None else labels[0]]
    names = {option: path for option, (path, _) in asked.items()}
    with learning.one_thread(), run.outputs(names, inputs, options.overwrite) as outputs:
        learnt, compared = None, None
        if labels is None:
            trained = _loaded(options.classifier, embedding, numeric, run)
            scale = trained.model.steps[0][1]
            compared = likeness.Likeness(scale.mean_, scale.scale_)
            progress = run.progress({"predicting": embedding.area.pixels})
            told = {"classifier": options.classifier.name, "method": trained.method}
        else:
            settings = _settings(options, numeric)
            learnt, progress = training.learnt(embedding, labels, options.field, settings, run)
            trained = learnt.trained
            told = {"labels": labels[0].name, **settings.told()}
        about = tags(tool, embedding, {**told, "field": trained.field})
        predicting.write(embedding, trained, outputs, options.output, probability, about, run, progress, compared)
        if compared is not None:
            cure = "train on labels of its own"
            for line in compared.warnings(options.classifier.name, embedding.path.name, cure):
                run.reporter.warning(line)
        if learnt is not None:
            _write_beside(learnt, options, outputs)
        progress.finish()


def _settings(options: argparse.Namespace, numeric: bool) -> Settings:
    """What the training is told, with defaults filled in."""
    from malice_core.analysis import labelled
    from malice_core.analysis.training import Settings

    method = options.method or METHODS[0]
    weighted = not numeric and method != "knn"
    limit = (options.pixels or labelled.IN_ALL) if numeric else (options.per_class or labelled.PER_CLASS)
    return Settings(
        numeric,
        method,
        FOLDS if options.folds is None else options.folds,
        options.fold_size,
        options.per_place or labelled.PER_PLACE,
        limit,
        (options.class_weights or WEIGHTS[0]) if weighted else None,
        SEED if options.seed is None else options.seed,
    )


def _require_no_training(options: argparse.Namespace) -> None:
    """Raises InputError if an option of training was given with a trained classifier."""
    for name in TRAINING:
        if getattr(options, name, None) is not None:
            raise InputError(f"--{name.replace('_', '-')} is of training, --classifier was trained: leave one out")


def _loaded(path: Path, embedding: Embedding, numeric: bool, run: Run) -> Trained:
    from malice_core.analysis import saved

    trained, warnings = saved.load(path)
    if numeric != (trained.legend is None):
        what, tool = ("numbers", "regress") if trained.legend is None else ("classes", "classify")
        raise InputError(f"--classifier {path} predicts {what}: use python -m malice_core.{tool}")
    trained.kind.require(embedding.kind, f"{path}", f"{embedding.path}")
    for line in warnings:
        run.reporter.warning(line)
    return trained


def _write_beside(learnt: Learnt, options: argparse.Namespace, outputs: Outputs) -> None:
    """The reports and the classifier."""
    from malice_core.analysis import report, saved

    content = learnt.report | {"output": options.output.name}
    if options.report is not None:
        outputs.file(options.report).write_text(report.page(content), encoding="utf-8")
    if options.report_json is not None:
        text = json.dumps(content, ensure_ascii=False, indent=1)
        outputs.file(options.report_json).write_text(text + "\n", encoding="utf-8")
    if options.save_classifier is not None:
        saved.save(learnt.trained, outputs.file(options.save_classifier))
