"""Tables of Markdown from the benchmarks' numbers, and their way into docs/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from measuring import BenchmarkError
from profile_run import GRAPHS
from profile_run import table as profile_table

DOCS = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
TITLES = {"openeo": "as openEO users run it", "downstream": "as downstream code runs it"}


def into_docs(name: str, lines: list[str], path: Path = DOCS) -> None:
    """Replaces what lies between ``<!-- NAME -->`` and ``<!-- /NAME -->``.

    Raises:
        BenchmarkError: if the marks are not there, once each and in this order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = path.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise BenchmarkError(f"{path} must have one {begin} and one {end} after it")
    before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    path.write_text("\n".join([before, "", *lines, "", after]), encoding="utf-8")


def about(machine: dict[str, Any]) -> str:
    """What the numbers depend on, in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; {machine['system']}; {versions}"


def speed(found: dict[str, Any]) -> list[str]:
    """The tables of ``speed.py``."""
    peak = found["peak"]
    lines = [f"{about(found['machine'])}.", ""]
    lines.append(
        f"Matrix-multiply peak: {peak['float32']:.0f} GFLOPS in float32, "
        + (f"{peak['bfloat16']:.0f} in bfloat16." if peak["bfloat16"] else "no bfloat16 on this processor.")
    )
    for case in found["cases"]:
        lines += ["", *_case(case, peak)]
    profile = found["profile"]
    computing = sum(part["seconds"] for name, part in profile["parts"].items() if name in GRAPHS)
    lines += ["", f"Where the time goes, {profile['size']} × {profile['size']} pixels, {profile['dates']} dates:", ""]
    lines += profile_table(profile)
    lines += [
        "",
        f"{profile['wall_s']:.1f} s in all, without loading libraries; at least one graph computes in "
        f"{100 * profile['graph_share']:.1f} % of them ({computing:.1f} s of all threads).",
    ]
    return lines


def _case(case: dict[str, Any], peak: dict[str, float | None]) -> list[str]:
    lines = [
        f"**{case['size']} × {case['size']} pixels, {case['dates']} dates**, "
        + ("one turn" if case["turns"] == 1 else f"medians of {case['turns']} turns"),
        "",
        "| | thousand pixel-dates/s | peak MB | float32 is … times as fast | bfloat16 is | float32 takes of its memory "
        "| useful share of peak | taken by the host |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, way in case["ways"].items():
        precision = "bfloat16" if name.endswith("bfloat16") else "float32"
        middle, top = way["median"], peak[precision]
        assert top is not None, "a precision that has no peak was run"
        times, share = ["", ""], ""
        if "times_faster" in way:
            faster = [way["times_faster"].get(key) for key in ("float32", "bfloat16")]
            times, share = [_range(one, 1) if one else "" for one in faster], _range(way["memory_share"], 2)
        stolen = f"{100 * middle['stolen']:.1f} %" if "stolen" in middle else ""
        lines.append(
            f"| {TITLES.get(name, name)}: {way['note']} | {middle['pixel_dates_per_s'] / 1e3:.1f} | "
            f"{middle['peak_mb']:.0f} | {' | '.join(times)} | {share} | {100 * way['useful_gflops'] / top:.0f} % | "
            f"{stolen} |"
        )
    if peak["bfloat16"] is None:
        lines.insert(5, "| ours, bfloat16: not on this processor | | | | | | | |")
    for name, way in case["ways"].items():
        if "executed" not in way:
            continue
        precision = name.split(", ")[1]
        reached = way["executed_gflops"] / (peak[precision] or 0)
        lines += [
            "",
            f"Ours in {precision} in blocks of {way['block'][0]} × {way['block'][1]}: "
            f"{2e-9 * way['executed']:.0f} GFLOP executed, of which halo and edges are "
            f"{100 * (1 - case['useful'] / way['executed']):.1f} %; executed over the whole run: "
            f"{100 * reached:.0f} % of the peak. The plan's bound on memory was "
            f"{way['planned_mb']:.0f} MB.",
        ]
    return lines


def _range(ratio: dict[str, float], digits: int) -> str:
    middle, least, most = (f"{ratio[key]:.{digits}f}" for key in ("median", "least", "most"))
    return f"{middle} × ({least}–{most})" if least != most else f"{middle} ×"


def flat(found: dict[str, Any]) -> list[str]:
    """The tables of ``flat.py``."""
    lines = [f"{about(found['machine'])}.", ""]
    lines += ["| pixels | dates | blocks of | peak MB | bound of the plan, MB | seconds | µs a pixel and date |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in sorted(found["runs"], key=lambda row: (row["dates"], row["size"])):
        lines.append(
            f"| {row['size']} × {row['size']} | {row['dates']} | {row['block'][0]} × {row['block'][1]} | "
            f"{row['peak_mb']:.0f} | {row['planned_mb']:.0f} | {row['s']:.1f} | {row['us_per_pixel_date']:.2f} |"
        )
    tile, start = found["tile"], found["start_up"]
    lines += [
        "",
        f"A whole Sentinel-2 tile, {tile['size']} × {tile['size']} pixels with {tile['dates']} dates, is planned in "
        f"{tile['s']:.1f} s and {tile['peak_mb']:.0f} MB: {tile['blocks']} blocks of {tile['block'][0]} × "
        f"{tile['block'][1]} pixels, at most {tile['planned_mb']:.0f} MB.",
        "",
        f"`--contract` answers after {start['contract']:.2f} s; a run of 512 × 512 pixels with 20 dates has its plan "
        f"after {start['plan']:.2f} s and its first date encoded after {start['first']:.2f} s.",
        "",
        f"A GB of memory that nobody used for seconds takes {found['touching'][0]:.2f} s of a processor until it is "
        f"there, {found['touching'][1]:.2f} s at once again: a run pays the first once, for as much as its peak.",
    ]
    return lines
