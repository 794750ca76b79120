"""What a report on a series writes: page, json, table, events; what its command line refuses, and cancelling."""

from __future__ import annotations

import csv
import html.parser
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import rasterio
from helpers_embed import free_names
from helpers_inspect import DAYS, SHAPE, looked, run, write_stack_with_clouds
from helpers_stack import reflectance, write

from malice_core.errors import InputError
from malice_core.inspection import tables


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stack_with_clouds(tmp_path_factory.mktemp("series"))


class _Page(html.parser.HTMLParser):
    """Balances tags, and collects what would be fetched or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.foreign: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        fetched = [value for name, value in attrs if name in ("src", "href", "onclick", "onload")]
        self.foreign += [tag] * (tag in ("script", "link", "img", "iframe")) + list(map(str, fetched))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_files(series: Path, tiny: str, tmp_path: Path) -> None:
    """Page, json and table agree with the survey; names with signs of html are shown as they are."""
    odd = tmp_path / "a <b> & 'c'"
    odd.mkdir()
    for path in (series / "S2").iterdir():
        os.symlink(path, odd / path.name.replace("S2_", "S2 <i> & "))
    given = ("--model", tiny, "--s2", odd, "--s1", series / "S1", "--scl", series / "SCL", "--max-cloud", "30")
    targets = ("--report", tmp_path / "r.html", "--json", tmp_path / "r.json", "--table", tmp_path / "r.csv")
    assert run(*given, *targets) == {}
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["dates"] == json.loads(json.dumps([tables.record(row) for row in looked(*given).rows]))
    with (tmp_path / "r.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["used"] == "yes" for line in lines] == [row["used"] for row in told["dates"]]
    assert [line["files"].split(";") for line in lines] == [row["files"] for row in told["dates"]]
    assert [line["cloud_percent"] for line in lines] == [
        "" if row["cloud_percent"] is None else str(row["cloud_percent"]) for row in told["dates"]
    ]
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.foreign == []
    assert "S2 <i> & 20180105.tif" in page.text
    plots = [part.split("</svg>")[0] + "</svg>" for part in text.split("<svg")[1:]]
    months, calendar = (ET.fromstring("<svg" + plot) for plot in plots)
    space = "{http://www.w3.org/2000/svg}"
    titles = [one.text for one in months.iter(f"{space}title")]
    assert "Feb 2018: 2 used, 1 left out" in titles
    cells = [one.text for one in calendar.iter(f"{space}title")]
    assert len(cells) == len(told["dates"])
    assert f"{DAYS[7]}, cloud 66 %, cloud 66.2 % > 30 %" in cells
    assert free_names(tmp_path) == sorted(["a <b> & 'c'", "r.csv", "r.html", "r.json"])


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "malice_core.inspect", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_command_line(series: Path, tiny: str, tmp_path: Path) -> None:
    """With a trial of the graphs; a summary where no file is asked for; refusals do not end it."""
    done = command("--s2", series / "S2", "--model", tiny, "--scl", series / "SCL", "--max-cloud", "30")
    assert done.returncode == 0, done.stderr
    assert "S2         6 of 9 dates used" in done.stdout
    assert "time to compute" in done.stdout
    done = command("--s2", series / "S2", "--model", tiny, "--progress", "json", "--table", tmp_path / "t.csv")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events if event["event"] not in ("progress", "warning")] == ["plan", "done"]
    assert events[-1]["files"] == [str(tmp_path / "t.csv")]
    (plan_event,) = [event for event in events if event["event"] == "plan"]
    assert plan_event["plan"]["estimate"]["seconds"] > 0
    before = (tmp_path / "t.csv").read_bytes()
    for arguments, says in (
        (("--table", tmp_path / "t.csv"), "exists already: give --overwrite"),
        (("--report", tmp_path / "r.txt"), "ends in .html"),
        (("--json", tmp_path / "no" / "r.json"), "does not exist"),
        (("--dates", "2018-13-01/"), "is no date"),
        (("--aoi", 0, 0, 100, 100), "lies outside"),
        (("--exactly",), "--help"),
    ):
        done = command("--s2", series / "S2", "--model", tiny, *arguments)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert says in done.stderr
    assert command().returncode == 2
    assert (tmp_path / "t.csv").read_bytes() == before
    assert free_names(tmp_path) == ["t.csv"]


def test_a_report_never_replaces_an_image(tmp_path: Path, tiny: str) -> None:
    image = write(tmp_path / "S2_20180511.tif", reflectance(*SHAPE))
    os.symlink(image, tmp_path / "t.csv")
    with pytest.raises(InputError, match="one of the images"):
        run("--s2", image, "--model", tiny, "--table", tmp_path / "t.csv", "--overwrite")
    assert rasterio.open(image).count == 10
    for option in ("--weather", "--s2-angles", "--dates"):
        (tmp_path / "in.csv").write_text("2018-05-11\n")
        given = f"@{tmp_path / 'in.csv'}" if option == "--dates" else tmp_path / "in.csv"
        with pytest.raises(InputError, match=r"--table .* is an input"):
            run("--s2", image, "--model", tiny, option, given, "--table", tmp_path / "in.csv", "--overwrite")
        assert (tmp_path / "in.csv").read_text() == "2018-05-11\n"


def test_cancelled_it_writes_nothing(series: Path, tiny: str, tmp_path: Path) -> None:
    arguments = ["--s2", series / "S2", "--model", tiny, "--report", tmp_path / "r.html", "--progress", "json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "malice_core.inspect", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 3, err
    assert time.monotonic() - begun < 2
    assert json.loads(out.splitlines()[-1])["message"] == "cancelled; nothing was written"
    assert free_names(tmp_path) == []


def test_durations_are_as_coarse_as_an_estimate() -> None:
    assert [tables.duration(s) for s in (0.2, 50, 840, 7800, 400000)] == [
        "1 s",
        "50 s",
        "14 min",
        "2 h 10 min",
        "4.6 days",
    ]
