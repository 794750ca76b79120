"""What a training tells: lines for people while it runs, and the content of its report (``docs/classify.md``)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

import malice_core
from malice_core.analysis.embedding import Embedding
from malice_core.analysis.labelled import Pixels
from malice_core.analysis.legend import Legend, listed
from malice_core.analysis.report import headline
from malice_core.analysis.sampling import keys
from malice_core.analysis.saved import Trained
from malice_core.analysis.scoring import Held
from malice_core.analysis.spatial import Folds
from malice_core.reporting import Reporter

#: Pairs of observed and predicted that a report holds at most.
PAIRS = 1500
#: Tags of an embedding that say whom to credit.
CREDITS = {"credits": "MALICE_CREDITS", "citation": "MALICE_CITATION", "licence": "MALICE_LICENCE"}


def of_folds(pixels: Pixels, known: Legend | None, dealt: Folds, reporter: Reporter) -> None:
    """Tells what will be learnt from, and how it will be tested."""
    places = len(np.unique(pixels.place))
    classes = f" of {len(known.classes)} classes" if known else ""
    what = {
        "pixels": len(pixels.rows),
        "places": places,
        "classes": len(known.classes) if known else None,
        "folds": dealt.count,
        "fold_size": dealt.metres,
        "squares": len(dealt.squares),
    }
    reporter.plan(
        what,
        f"{len(pixels.rows)} pixels of {places} places{classes}; {dealt.count} folds of {len(dealt.squares)} squares "
        f"of {dealt.metres:g} m",
    )


def of_scores(scores: Mapping[str, Any], reporter: Reporter) -> None:
    """Tells what the test gave."""
    brief = {key: value for key, value in scores.items() if not isinstance(value, list)}
    reporter.plan({"scores": brief}, headline(scores))


def tested(
    pixels: Pixels,
    known: Legend | None,
    targets: NDArray[Any],
    dealt: Folds,
    held: Held,
    scores: dict[str, Any],
) -> dict[str, Any]:
    """What the test adds to a report."""
    notes = []
    if dealt.metres < dealt.reach:
        notes.append(
            f"squares of {dealt.metres:g} m are narrower than the {dealt.reach:g} m that the network sees around a "
            "pixel: places are tested by their neighbours, and the accuracy is probably too good; give a larger "
            "--fold-size"
        )
    if known is not None and scores["untested"]:
        alone = np.unique(targets[~held.tested])
        notes.append(
            f"{scores['untested']} pixels are not in the accuracy, as their class lies in one fold only: "
            f"{listed([known.names[one] for one in alone])}; label more places of it, or give a smaller --fold-size"
        )
    folds = zip(dealt.squares.tolist(), dealt.square_fold.tolist(), strict=True)
    found: dict[str, Any] = {
        "scores": scores,
        "folds": {
            "count": dealt.count,
            "metres": dealt.metres,
            "side": dealt.side,
            "squares": [[*square, fold] for square, fold in folds],
            "places": [
                [*np.round(pixels.centres[one], 2).tolist(), int(dealt.fold[one])] for one in np.unique(pixels.place)
            ],
        },
        "notes": notes,
    }
    if known is None:
        drawn = np.sort(np.argsort(keys(np.arange(len(targets)), 0), kind="stable")[:PAIRS])
        found["scatter"] = [[float(targets[one]), float(held.predicted[one])] for one in drawn]
    return found


def about(embedding: Embedding, pixels: Pixels, trained: Trained, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says whatever the test.

    Args:
        settings: what the training was told, for people.
    """
    known = trained.legend
    classes = []
    for number, one in enumerate(known.plain() if known else ()):
        mine = pixels.label == number
        counts = {"pixels": int(mine.sum()), "places": len(np.unique(pixels.place[mine]))}
        classes.append(one | counts)
    return {
        "tool": "regress" if known is None else "classify",
        "version": malice_core.__version__,
        "scikit_learn": trained.versions["scikit-learn"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "embedding": {
            "file": embedding.path.name,
            **embedding.kind.plain(),
            "crs": f"{embedding.place.crs}",
            "dates": {sensor: [f"{day}" for day in days] for sensor, days in embedding.dates.items()},
            **{key: embedding.tags[tag] for key, tag in CREDITS.items() if tag in embedding.tags},
        },
        "labels": {"field": trained.field, "places": len(np.unique(pixels.place)), "pixels": len(pixels.rows)},
        "settings": dict(settings),
        "classes": classes,
    }
