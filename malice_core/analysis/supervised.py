"""What ``classify`` and ``regress`` share: options, training on labelled pixels, the test by folds, prediction."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import malice_core
from malice_core import flags
from malice_core.analysis.command import Progress, Run, add_seed, tags
from malice_core.analysis.learning import METHODS, WEIGHTS
from malice_core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from malice_core.analysis.embedding import Embedding
    from malice_core.analysis.labelled import Pixels
    from malice_core.analysis.legend import Legend
    from malice_core.analysis.result import Outputs
    from malice_core.analysis.saved import Trained

#: Folds unless another number is given.
FOLDS = 5
#: Options that are of training only.
TRAINING = ("field", "method", "folds", "fold_size", "per_place", "report", "report_json", "save_classifier", "seed")


def add_options(p: argparse.ArgumentParser, numeric: bool) -> None:
    """Labels, method, test and what is written of them."""
    what = "numbers" if numeric else "classes"
    g = p.add_argument_group("labels")
    one = g.add_mutually_exclusive_group(required=True)
    one.add_argument(
        "--labels", type=flags.path, metavar="FILE", help=f"points or polygons with {what}: .geojson, .gpkg"
    )
    one.add_argument("--classifier", type=Path, metavar="FILE.skops", help="apply one that --save-classifier wrote")
    g.add_argument("--field", type=flags.path, metavar="NAME", help=f"the attribute with the {what}")
    g.add_argument("--per-place", type=flags.count, metavar="N", help="pixels of a polygon at most, default 100")
    g = p.add_argument_group("learning")
    g.add_argument("--method", choices=METHODS, help="default linear")
    g.add_argument("--folds", type=_folds, metavar="N", help=f"spatial folds to test on, default {FOLDS}; 0: no test")
    g.add_argument("--fold-size", type=_metres, metavar="METRES", help="side of their squares (default: by the labels)")
    add_seed(p)
    # Told from one that was not given, which --classifier asks for.
    p.set_defaults(seed=None)
    g = p.add_argument_group("what else to write")
    g.add_argument("--report", type=Path, metavar="FILE.html", help="accuracy on the held-out folds, to be read")
    g.add_argument("--report-json", type=Path, metavar="FILE.json", help="the same for programs")
    g.add_argument("--save-classifier", type=Path, metavar="FILE.skops", help="for other years or places")
    if numeric:
        g = p.add_argument_group("of numbers")
        g.add_argument("--pixels", type=flags.count, metavar="N", help="labelled pixels at most, default 20000")
    else:
        g = p.add_argument_group("of classes")
        g.add_argument("--per-class", type=flags.count, metavar="N", help="pixels of a class at most, default 2000")
        g.add_argument(
            "--class-weights", choices=WEIGHTS, help="balanced (default): rare classes weigh as much; not for knn"
        )
        g.add_argument("--probability", type=Path, metavar="FILE.tif", help="also write the winning class' probability")


def _folds(text: str) -> int:
    return int(text) if text == "0" else int(flags.number(text, int, 2, 1000, "0, or a number of folds from 2 on"))


def _metres(text: str) -> float:
    return float(flags.number(text, float, 1, 1e6, "a side in metres, 1 to 1000000"))


@dataclass
class Learnt:
    """What a run trained, and what is told of it.

    Attributes:
        trained: what predicts.
        report: see ``docs/classify.md``.
    """

    trained: Trained
    report: dict[str, Any]


def run(options: argparse.Namespace, run: Run, numeric: bool) -> None:
    """The work of both command lines."""
    from malice_core import vectors
    from malice_core.analysis import learning, predicting, result, saved
    from malice_core.analysis.embedding import Embedding
    from malice_core.job import SUFFIXES

    tool = "regress" if numeric else "classify"
    probability: Path | None = getattr(options, "probability", None)
    names: dict[str, Path | None] = {
        "--output": options.output,
        "--probability": probability,
        "--report": options.report,
        "--report-json": options.report_json,
        "--save-classifier": options.save_classifier,
    }
    suffixes = {
        "--output": SUFFIXES["gtiff"],
        "--probability": SUFFIXES["gtiff"],
        "--report": (".html", ".htm"),
        "--report-json": (".json",),
        "--save-classifier": (saved.SUFFIX,),
    }
    for option, path in names.items():
        if path is not None:
            result.require_suffix(option, path, suffixes[option])
    if options.classifier is not None:
        _require_no_training(options)
    embedding = Embedding.open(options.input)
    labels = vectors.source(options.labels) if options.labels is not None else None
    inputs = [*embedding.files, options.classifier if labels is None else labels[0]]
    with learning.one_thread(), run.outputs(names, inputs, options.overwrite) as outputs:
        if labels is None:
            trained = _loaded(options.classifier, embedding, numeric, run)
            learnt = None
            progress = run.progress({"predicting": embedding.area.pixels})
        else:
            if options.save_classifier is not None:
                saved.require()
            learnt, progress = _learnt(embedding, labels, options, numeric, run)
            trained = learnt.trained
        given = {name: value for name, value in vars(options).items() if name in (*TRAINING, "per_class", "pixels")}
        told = tags(
            tool,
            embedding,
            {"method": trained.method, "field": trained.field}
            | {name.replace("_", "-"): value for name, value in given.items() if not isinstance(value, Path)}
            | ({"labels": labels[0].name} if labels else {"classifier": options.classifier.name}),
        )
        predicting.write(embedding, trained, outputs, options.output, probability, told, run, progress)
        if learnt is not None:
            _write_beside(learnt, options, outputs)
        progress.finish()


def _require_no_training(options: argparse.Namespace) -> None:
    more = ("per_class", "pixels", "class_weights")
    for name in (*TRAINING, *more):
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


def _learnt(
    embedding: Embedding, labels: tuple[Path, str | None], options: argparse.Namespace, numeric: bool, run: Run
) -> tuple[Learnt, Progress]:
    """Reads labels, tests by folds and trains on all."""
    import numpy as np

    from malice_core.analysis import labelled, legend, memories, saved, scoring, spatial, windows
    from malice_core.vectors import chosen, classes, numbers, read

    layer = read(*labels)
    field = chosen(layer, options.field)
    known: Legend | None = None
    if numeric:
        each = numbers(layer, field)
        values = sorted({one for one in each if one is not None})
        if len(values) == 1:
            raise InputError(f"{layer.path}: all values of {field} are {values[0]:g}: there is nothing to learn")
        numbers_of = {value: number for number, value in enumerate(values)}
        of_feature = [None if one is None else numbers_of[one] for one in each]
        cap = labelled.Cap(options.per_place or labelled.PER_PLACE, options.pixels or labelled.IN_ALL, False)
    else:
        known, of_feature = legend.of_labels(classes(layer, field), layer.path)
        cap = labelled.Cap(options.per_place or labelled.PER_PLACE, options.per_class or labelled.PER_CLASS)
    seed = options.seed if options.seed is not None else 1
    pixels = labelled.find(layer.moved(embedding.place.crs), of_feature, embedding.place, cap, seed, run.check)

    folds = options.folds if options.folds is not None else FOLDS
    area = embedding.area.pixels
    # A fold takes about as long as predicting some ten thousand pixels.
    fit = max(1, min(area, 20_000))
    progress = run.progress({"reading labels": area, "testing": (folds + 1) * fit, "predicting": area})
    workers = memories.workers(run, embedding, len(pixels.rows), folds)
    sides = windows.plan([embedding], run.memory, run.threads, kept=memories.sample_bytes(embedding, len(pixels.rows)))
    numbers_there, pixels = _gathered(embedding, pixels, sides[0], run, progress)
    if known is not None:
        known, pixels = _present(known, pixels, layer.path)
    for line in pixels.notes:
        run.reporter.warning(line)

    targets: NDArray[Any] = np.array(values)[pixels.label] if known is None else pixels.label
    weights = getattr(options, "class_weights", None)
    fitting = scoring.fitting(options.method or METHODS[0], numeric, seed, weights != "none")
    report: dict[str, Any] = {}
    if folds:
        dealt = spatial.make(
            pixels.centres, _of_place(pixels, known, targets), embedding.place, folds, options.fold_size, seed
        )
        _tell_plan(pixels, known, dealt, run)
        held = scoring.held_out(
            numbers_there,
            targets,
            dealt.fold[pixels.place],
            folds,
            fitting,
            workers,
            run.check,
            lambda done: progress.step("testing")(done * fit),
        )
        scores = (
            scoring.of_numbers(targets, held)
            if known is None
            else scoring.of_classes(targets, held, len(known.classes))
        )
        report = _scores(pixels, known, targets, dealt, held, scores, embedding)
        for line in report["notes"]:
            run.reporter.warning(line)
        _tell_scores(scores, run)
    model = fitting(numbers_there.astype(np.float64), targets)
    run.check()
    progress.ended("testing")
    brief = {key: value for key, value in report.get("scores", {}).items() if isinstance(value, float)}
    trained = saved.Trained(model, embedding.kind, options.method or METHODS[0], field, known, brief, saved.versions())
    about = _about(embedding, layer.path, pixels, trained, options, seed)
    report = about | report | {"notes": [*pixels.notes, *report.get("notes", [])]}
    return Learnt(trained, report), progress


def _gathered(
    embedding: Embedding, pixels: Pixels, height: int, run: Run, progress: Progress
) -> tuple[NDArray[np.float32], Pixels]:
    """(n, features) of the labelled pixels that have data, and which these are."""
    import numpy as np

    from malice_core.analysis import sampling

    found = np.empty((len(pixels.rows), embedding.kind.features), np.float32)
    advance = progress.step("reading labels")
    sampling.gather(embedding, pixels.rows, pixels.cols, found, height, run.threads, run.check, advance)
    progress.ended("reading labels")
    there: NDArray[np.bool_] = np.asarray(np.isfinite(found).all(axis=1))
    if not there.any():
        raise InputError(f"no labelled pixel has data in {embedding.path}: label places that have")
    if there.all():
        return found, pixels
    lost = f"{int((~there).sum())} of {len(there)} labelled pixels have no data: they are left out"
    return found[there], pixels.kept(there, lost)


def _present(known: Legend, pixels: Pixels, source: Path) -> tuple[Legend, Pixels]:
    """The classes that have pixels, and pixels numbered by them."""
    from dataclasses import replace

    import numpy as np

    from malice_core.analysis.legend import Legend

    present = np.unique(pixels.label)
    names = [known.names[one] for one in present]
    if len(present) < 2:
        raise InputError(f"{source}: only class {names[0]} has pixels with data, two or more are needed")
    lost = [name for name in known.names if name not in names]
    notes = (f"classes without a pixel are left out: {', '.join(lost)}",) if lost else ()
    kept = Legend(tuple(known.classes[one] for one in present))
    return kept, replace(pixels, label=np.searchsorted(present, pixels.label), notes=pixels.notes + notes)


def _of_place(pixels: Pixels, known: Legend | None, targets: NDArray[Any]) -> NDArray[np.int64]:
    """(places,) what folds are dealt by: the class of each, or the fifth of the numbers; -1 of those without pixels."""
    import numpy as np

    labels = pixels.label
    if known is None:
        edges = np.quantile(targets, [0.2, 0.4, 0.6, 0.8])
        labels = np.searchsorted(edges, targets, side="right")
    found = np.full(len(pixels.centres), -1, np.int64)
    found[pixels.place] = labels
    return found


def _tell_plan(pixels: Pixels, known: Legend | None, dealt: Any, run: Run) -> None:
    import numpy as np

    places = len(np.unique(pixels.place))
    what = {
        "pixels": len(pixels.rows),
        "places": places,
        "classes": len(known.classes) if known else None,
        "folds": dealt.count,
        "fold_size": dealt.metres,
        "squares": len(dealt.squares),
    }
    of = f" of {what['classes']} classes" if known else ""
    run.reporter.plan(
        what,
        f"{what['pixels']} pixels of {places} places{of}; {dealt.count} folds of {what['squares']} squares of "
        f"{dealt.metres:g} m",
    )


def _tell_scores(scores: dict[str, Any], run: Run) -> None:
    from malice_core.analysis.report import headline

    run.reporter.plan(
        {"scores": {key: scores[key] for key in scores if not isinstance(scores[key], list)}}, headline(scores)
    )


def _scores(
    pixels: Pixels, known: Legend | None, targets: Any, dealt: Any, held: Any, scores: Any, embedding: Embedding
) -> dict[str, Any]:
    """What the test adds to a report."""
    import numpy as np

    from malice_core.analysis.sampling import keys

    there = np.unique(pixels.place)
    of_place = np.zeros(len(pixels.centres), np.int64)
    of_place[pixels.place] = pixels.label
    notes = []
    if known is not None and scores["untested"]:
        alone = np.unique(targets[~held.tested])
        notes.append(
            f"{scores['untested']} pixels are not in the accuracy, as their class lies in one fold only: "
            f"{', '.join(known.names[one] for one in alone)}; label more places of it, or give a smaller --fold-size"
        )
    found: dict[str, Any] = {
        "scores": scores,
        "folds": {
            "count": dealt.count,
            "metres": dealt.metres,
            "side": dealt.side,
            "squares": [
                [*square, fold] for square, fold in zip(dealt.squares.tolist(), dealt.square_fold.tolist(), strict=True)
            ],
            "places": [[*np.round(pixels.centres[one], 2).tolist(), int(dealt.fold[one])] for one in there],
        },
        "notes": notes,
    }
    if known is None:
        order = np.argsort(keys(np.arange(len(targets)), 0), kind="stable")[:1500]
        found["scatter"] = [[float(targets[one]), float(held.predicted[one])] for one in np.sort(order)]
    return found


def _about(
    embedding: Embedding, labels: Path, pixels: Pixels, trained: Trained, options: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """What a report says whatever the test."""
    import numpy as np

    known = trained.legend
    classes = []
    for number, one in enumerate(known.plain() if known else ()):
        mine = pixels.label == number
        places = len(np.unique(pixels.place[mine]))
        classes.append(one | {"pixels": int(mine.sum()), "places": places})
    weights = None if known is None or trained.method == "knn" else options.class_weights or WEIGHTS[0]
    return {
        "tool": "regress" if known is None else "classify",
        "version": malice_core.__version__,
        "scikit_learn": trained.versions["scikit-learn"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "output": options.output.name,
        "embedding": {
            "file": embedding.path.name,
            **embedding.kind.plain(),
            "crs": f"{embedding.place.crs}",
            "dates": {sensor: [f"{day}" for day in days] for sensor, days in embedding.dates.items()},
            **{key: embedding.tags[tag] for key, tag in _CREDITS.items() if tag in embedding.tags},
        },
        "labels": {
            "file": labels.name,
            "field": trained.field,
            "places": len(np.unique(pixels.place)),
            "pixels": len(pixels.rows),
        },
        "method": trained.method,
        "class_weights": weights,
        "seed": seed,
        "classes": classes,
    }


_CREDITS = {"credits": "MALICE_CREDITS", "citation": "MALICE_CITATION", "licence": "MALICE_LICENCE"}


def _write_beside(learnt: Learnt, options: argparse.Namespace, outputs: Outputs) -> None:
    """The reports and the classifier."""
    from malice_core.analysis import report, saved

    if options.report is not None:
        outputs.file(options.report).write_text(report.page(learnt.report), encoding="utf-8")
    if options.report_json is not None:
        text = json.dumps(learnt.report, ensure_ascii=False, indent=1)
        outputs.file(options.report_json).write_text(text + "\n", encoding="utf-8")
    if options.save_classifier is not None:
        saved.save(learnt.trained, outputs.file(options.save_classifier))
