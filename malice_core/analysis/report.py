"""The report of a training as one page of HTML that needs nothing else, for people; programs take the JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from malice_core.analysis.charts import fold_colour, fold_map, scatter

METHODS = {
    "linear": {False: "logistic regression", True: "ridge regression"},
    "knn": {False: "nearest neighbours", True: "nearest neighbours"},
    "forest": {False: "random forest", True: "random forest"},
}
STYLE = """
:root{--ink:#1d2529;--soft:#5c686f;--line:#dfe5e8;--back:#f6f8f9;--card:#fff;--mark:#0b6e4f;--warn:#fff6e0;--edge:#e5b94e}
@media(prefers-color-scheme:dark){:root{--ink:#e6ecef;--soft:#9fadb5;--line:#34414a;--back:#151b1f;--card:#1d262b;
--mark:#58c79b;--warn:#382f17;--edge:#8a6d1f}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:16px/1.5 system-ui,"Segoe UI",
Roboto,"Helvetica Neue",sans-serif}main{max-width:1120px;margin:0 auto;padding:32px 20px 56px}
h1{font-size:28px;line-height:1.2;margin:0 0 4px}h2{font-size:19px;margin:0 0 12px}.sub,.small{color:var(--soft)}
.small{font-size:14px}section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:20px 22px;
margin-top:18px}.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:14px;margin-top:22px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 18px}
.card b{display:block;font-size:28px;line-height:1.25;color:var(--mark);font-variant-numeric:tabular-nums}
.card span{color:var(--soft);font-size:14px}.card i{font-style:normal;font-size:15px;font-weight:400;color:var(--soft)}
.notes{background:var(--warn);border-color:var(--edge)}ul{margin:0;padding-left:20px}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}th{font-weight:600;text-align:left}
td,th{white-space:nowrap;padding:5px 9px;
border-bottom:1px solid var(--line);vertical-align:middle}td.n,th.n{text-align:right}
.many{font-size:12px}
.many td,.many th{padding:3px 4px}
.matrix td{text-align:right;min-width:34px;border:1px solid var(--line)}.matrix thead th{vertical-align:bottom}
.matrix .down{-webkit-writing-mode:vertical-rl;writing-mode:vertical-rl;transform:rotate(180deg);
white-space:nowrap;padding:4px 0;font-weight:600}
.matrix .sum{color:var(--soft)}.matrix .hit{font-weight:700}.swatch{display:inline-block;width:12px;height:12px;
border-radius:3px;margin-right:7px;vertical-align:-1px;border:1px solid #0003}.bar{display:inline-block;width:84px;
height:9px;border-radius:5px;background:var(--line);margin-right:8px;vertical-align:1px;overflow:hidden}
.bar i{display:block;height:100%;background:var(--mark)}.text{margin:0 0 8px;font-size:15px}p.small{margin:0 0 12px}
table+p.small{margin:12px 0 0}.card b{white-space:nowrap}
.two{display:flex;flex-wrap:wrap;gap:28px;align-items:flex-start}
.two>*{flex:1 1 300px;min-width:0}svg{width:100%;height:auto;display:block}dl{display:grid;grid-template-columns:
max-content 1fr;gap:5px 18px;margin:0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media print{body{background:#fff}section,.card{break-inside:avoid}}
"""


#: What the numbers of a test mean.
HELD_OUT = (
    "Every labelled pixel was predicted by a model that was trained on the other folds only. A fold is a set of "
    "squares of the map, so that what is tested on lies elsewhere than what is trained on: neighbours look alike, "
    "and a test on pixels drawn at random would be far too good (Roberts et al. 2017, doi 10.1111/ecog.02881). The "
    "map itself was made by a model that was trained on all labels."
)
#: Why they are none of the map.
NOT_OF_AREA = (
    "They are shares of the labelled pixels, not of the map: where labels are not spread over the area by chance, "
    "or classes are labelled more often than they occur, the accuracy of the map and the area of a class differ. "
    "Estimates of both need a random sample of the map, weighted by the mapped areas (Olofsson et al. 2014, doi "
    "10.1016/j.rse.2014.02.015)."
)
ALIKE = "Pixels of one polygon are much alike: the number of places tells more than that of pixels."
FLAT = (
    "Pixels of held-out folds, at most 1500 of them. On the dashed line both are equal. Predictions that are "
    "flatter than the line are usual: what the embedding does not tell is answered with the mean."
)


def percent(value: float | None, digits: int = 1) -> str:
    """``87.3 %``; a dash for what is not known."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None) -> str:
    """Three digits; a dash for what is not known."""
    return "–" if value is None else f"{value:#.3g}".rstrip(".")


def headline(scores: Mapping[str, Any]) -> str:
    """The scores in one line."""
    if "rmse" in scores:
        half = "" if scores["interval"] is None else f" ± {number(scores['interval'])}"
        return (
            f"on held-out folds: RMSE {number(scores['rmse'])}{half}, MAE {number(scores['mae'])}, R² "
            f"{number(scores['r2'])}, bias {number(scores['bias'])}"
        )
    half = "" if scores["interval"] is None else f" ± {100 * scores['interval']:.1f}"
    return (
        f"on held-out folds: overall accuracy {percent(scores['overall_accuracy'])}{half}, "
        f"macro F1 {number(scores['macro_f1'])}"
    )


def page(report: dict[str, Any]) -> str:
    """The whole page.

    Args:
        report: as ``--report-json`` has it, see ``docs/classify.md``.
    """
    numeric = report["tool"] == "regress"
    title = f"{'Regression' if numeric else 'Classification'} of {report['embedding']['file']}"
    method = METHODS[report["settings"]["method"]][numeric]
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{escape(title)}</h1>",
        f'<div class="sub">{escape(report["labels"]["field"])} of {escape(report["labels"]["file"])}, by {method}; '
        f"written to {escape(report['output'])} on {escape(report['created'][:16].replace('T', ' '))} UTC</div>",
        _cards(report, numeric),
        _notes(report["notes"]),
    ]
    if "scores" in report:
        parts += [_errors(report)] if numeric else [_matrix(report), _classes(report)]
        parts += [_test(numeric), _folds(report, numeric)]
    elif not numeric:
        parts.append(_classes(report))
    parts += [_provenance(report, method), "</main></body></html>\n"]
    return "\n".join(part for part in parts if part)


def _cards(report: dict[str, Any], numeric: bool) -> str:
    labels, cards = report["labels"], []
    if (scores := report.get("scores")) is not None:
        half = scores["interval"]
        if numeric:
            more = "" if half is None else f"<i> ± {number(half)}</i>"
            cards.append((f"{number(scores['rmse'])}{more}", "RMSE, with its 95 % interval"))
            cards.append((number(scores["r2"]), "R², variance explained"))
            cards.append((number(scores["mae"]), "mean absolute error"))
            cards.append((number(scores["bias"]), "bias, predicted − observed"))
        else:
            more = "" if half is None else f"<i> ± {100 * half:.1f}</i>"
            cards.append((f"{percent(scores['overall_accuracy'])}{more}", "overall accuracy, with its 95 % interval"))
            cards.append((number(scores["macro_f1"]), "macro F1, mean over classes"))
    cards.append((f"{labels['pixels']}", f"labelled pixels of {labels['places']} points and polygons"))
    if "folds" in report:
        folds = report["folds"]
        cards.append((f"{folds['count']}", f"folds, of {len(folds['squares'])} squares of {folds['metres']:g} m"))
    inner = "".join(f'<div class="card"><b>{big}</b><span>{escape(small)}</span></div>' for big, small in cards)
    return f'<div class="cards">{inner}</div>'


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return f'<section class="notes"><ul>{"".join(f"<li>{escape(one)}</li>" for one in notes)}</ul></section>'


def _test(numeric: bool) -> str:
    texts = (HELD_OUT, ALIKE) if numeric else (HELD_OUT, NOT_OF_AREA, ALIKE)
    inner = "".join(f"<p class='text'>{one}</p>" for one in texts)
    return f"<section><h2>What these numbers are</h2>{inner}</section>"


def _swatch(colour: str) -> str:
    return f'<span class="swatch" style="background:{escape(colour)}"></span>'


def _matrix(report: dict[str, Any]) -> str:
    classes, scores = report["classes"], report["scores"]
    matrix, each = scores["confusion"], scores["by_class"]
    head = "".join(f"<th><div class='down'>{escape(one['name'])}</div></th>" for one in classes)
    rows = []
    for place, (one, row) in enumerate(zip(classes, matrix, strict=True)):
        total = sum(row)
        cells = []
        for column, value in enumerate(row):
            hit = column == place
            kind = " class='hit'" if hit else ""
            cells.append(f"<td{kind} style='background:{_shade(value, total, hit)}'>{value or ''}</td>")
        rows.append(
            f"<tr><th>{_swatch(one['colour'])}{escape(one['name'])}</th>{''.join(cells)}"
            f"<td class='sum'>{total}</td><td>{percent(each[place]['producers_accuracy'])}</td></tr>"
        )
    sums = "".join(f"<td class='sum'>{sum(row[column] for row in matrix)}</td>" for column in range(len(classes)))
    many = " many" if len(classes) > 12 else ""
    digits = 0 if many else 1
    users = "".join(f"<td>{percent(one['users_accuracy'], digits)}</td>" for one in each)
    return (
        "<section><h2>Confusion matrix</h2><p class='small'>Rows: the label. Columns: what the map says. Pixels of "
        f"held-out folds.</p><div class='scroll'><table class='matrix{many}'><thead>"
        "<tr><th class='small'>label ↓ map →</th>"
        f"{head}"
        "<th><div class='down'>pixels</div></th><th><div class='down'>producer's accuracy</div></th></tr></thead>"
        f"<tbody>{''.join(rows)}"
        f"<tr><th class='sum'>pixels</th>{sums}<td class='sum'>{scores['tested']}</td><td></td></tr>"
        f"<tr><th>user's accuracy</th>{users}<td></td><td class='hit'>{percent(scores['overall_accuracy'])}</td></tr>"
        "</tbody></table></div></section>"
    )


def _shade(value: int, total: int, hit: bool) -> str:
    share = value / total if total else 0.0
    red, green, blue = (11, 140, 95) if hit else (214, 94, 0)
    return f"rgba({red},{green},{blue},{0.75 * share:.3f})" if value else "none"


def _bar(value: float | None) -> str:
    return f'<span class="bar"><i style="width:{100 * (value or 0):.0f}%"></i></span>{percent(value)}'


def _classes(report: dict[str, Any]) -> str:
    each = report["scores"]["by_class"] if "scores" in report else None
    rows = []
    for place, one in enumerate(report["classes"]):
        cells = ""
        if each is not None:
            mine = each[place]
            cells = "".join(f"<td>{_bar(mine[key])}</td>" for key in ("users_accuracy", "producers_accuracy", "f1"))
        rows.append(
            f"<tr><td class='n'>{one['code']}</td><td>{_swatch(one['colour'])}{escape(one['name'])}</td>"
            f"<td class='n'>{one['places']}</td><td class='n'>{one['pixels']}</td>{cells}</tr>"
        )
    head = "<th>user's accuracy (precision)</th><th>producer's accuracy (recall)</th><th>F1</th>" if each else ""
    return (
        "<section><h2>Classes</h2><div class='scroll'><table><thead><tr><th class='n'>value</th><th>class</th>"
        f"<th class='n'>places</th><th class='n'>pixels</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div></section>"
    )


def _errors(report: dict[str, Any]) -> str:
    return (
        "<section><h2>Observed and predicted</h2><div class='two'>"
        f"{scatter(report['scatter'], report['labels']['field'])}<p class='small'>{FLAT}</p></div></section>"
    )


def _folds(report: dict[str, Any], numeric: bool) -> str:
    names = ("rmse", "r2") if numeric else ("overall_accuracy", "macro_f1")
    form = number if numeric else percent
    rows = "".join(
        f"<tr><td>{_swatch(fold_colour(place))}fold {place + 1}</td><td class='n'>{one['pixels']}</td>"
        f"<td class='n'>{form(one[names[0]])}</td><td class='n'>{number(one[names[1]])}</td></tr>"
        for place, one in enumerate(report["scores"]["folds"])
    )
    head = (
        "<th class='n'>RMSE</th><th class='n'>R²</th>"
        if numeric
        else "<th class='n'>accuracy</th><th class='n'>macro F1</th>"
    )
    return (
        f"<section><h2>Folds</h2><div class='two'>{fold_map(report['folds'])}<div><table><thead><tr><th>tested</th>"
        f"<th class='n'>pixels</th>{head}</tr></thead><tbody>{rows}</tbody></table><p class='small'>Squares of "
        f"{report['folds']['metres']:g} m; a dot is a labelled place, whole in the square of its middle.</p></div>"
        "</div></section>"
    )


def _provenance(report: dict[str, Any], method: str) -> str:
    source = report["embedding"]
    rows = [
        ("method", method),
        ("settings", ", ".join(f"{name} {value}" for name, value in report["settings"].items())),
        ("embedding", f"{source['file']}, {source['crs']}"),
        ("model", f"{source['model']} ({source['model_id']})"),
        ("queries", ", ".join(map(str, source["queries"]))),
    ]
    for sensor, days in source["dates"].items():
        span = f"{len(days)} dates, {days[0]} to {days[-1]}" if days else "dates not told"
        rows.append((sensor.upper().replace("S", "Sentinel-"), span))
    rows += [(name, source[name]) for name in ("credits", "citation", "licence") if name in source]
    rows.append(("made with", f"MALICE {report['version']}, scikit-learn {report['scikit_learn']}"))
    inner = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return f"<section><h2>Where this comes from</h2><dl>{inner}</dl></section>"
