"""The report on a series: the decisions of a plan, shares against counts by hand, gaps, and what a run refuses."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from helpers_aux import around, write_around
from helpers_dataset import FIRST as FIRST_OF_STACK
from helpers_dataset import write_stack
from helpers_inspect import DAYS, SHAPE, looked, run, write_stack_with_clouds
from helpers_stack import LEFT, TOP, backscatter, reflectance, write, write_s1
from rasterio.warp import transform_bounds

from malice_core import embed, plan
from malice_core.errors import InputError
from malice_core.grid import Window
from malice_core.images import reading
from malice_core.inspection import estimating, gaps, shares, survey
from malice_core.stack import discover


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stack_with_clouds(tmp_path_factory.mktemp("series"))


CHOICES = [
    ("{s}/S2",),
    ("{s}/S2", "--s1", "{s}/S1"),
    ("{s}/S2", "--scl", "{s}/SCL"),
    ("{s}/S2", "--scl", "{s}/SCL", "--max-cloud", "30"),
    ("{s}/S2", "--scl", "{s}/SCL", "--max-cloud", "40", "--cloud-classes", "9", "--max-dates", "3"),
    ("{s}/S2", "--s1", "{s}/S1", "--dates", "2018-01-10/2018-02-20", "--scl", "{s}/SCL", "--max-cloud", "20"),
    ("{s}/S2", "--s1", "{s}/S1", "--s1-orbit", "88", "--max-dates", "4", "--dtype", "int8", "--queries", "0,3"),
    ("{s}/S2", "--dates", "@{d}", "--memory", "700MB"),
    ("{s}/S2", "--scl", "{s}/SCL", "--max-cloud", "30", "--aoi", "500100", "5599700", "500333", "5599950"),
    ("{s}/S2", "--resolution", "20", "--format", "cog", "--block", "32x16", "--mask-clouds", "--scl", "{s}/SCL"),
]


@pytest.mark.parametrize("given", CHOICES, ids=range(len(CHOICES)))
def test_what_is_used_and_takes_is_what_a_run_plans(
    series: Path, tiny: str, tmp_path: Path, given: tuple[str, ...]
) -> None:
    (tmp_path / "d.txt").write_text(f"S2 {DAYS[1]}\nS2 {DAYS[4]}\n")
    arguments = ["--model", tiny, "--s2", *(text.format(s=series, d=tmp_path / "d.txt") for text in given)]
    found = looked(*arguments)
    made = plan.make_plan(embed.job_of(embed.parser().parse_args([*arguments, "--output", str(tmp_path / "e.tif")])))
    made.close()
    for sensor, stack in made.stacks.items():
        wanted = [(o.date, o.orbit, o.cloud_percent) for o in stack.observations]
        assert [(row.date, row.orbit, row.cloud) for row in found.of(sensor) if row.used] == wanted
        assert all(bool(row.reason) != row.used for row in found.of(sensor))
    assert found.sensors == list(made.stacks)
    assert (found.area, found.lattice, found.refused) == (made.area, made.lattice, [])
    estimate = estimating.make(found, False, lambda: None, timed=False)
    assert estimate is not None
    assert (estimate.memory, estimate.disk, estimate.blocks) == (made.budget.total, made.disk, made.grid.count)
    assert set(made.warnings) <= set(found.warnings)
    notes = [note for note in made.notes if not note.startswith(("area:", "model:"))]
    assert set(notes) - set(found.notes) <= {note for note in notes if "missing observations" in note}


def test_reasons(series: Path, tiny: str) -> None:
    scl = ("--scl", series / "SCL", "--max-cloud", "30", "--max-dates", "2", "--dates", f"{DAYS[1]}/")
    found = looked("--model", tiny, "--s2", series / "S2", *scl)
    reasons = [row.reason for row in found.rows]
    assert reasons[0] == f"outside --dates {DAYS[1]}/"
    assert reasons[1] == ""
    assert "thinned to --max-dates 2" in reasons[2:5]
    # The cloud of date i covers 2 i + 1 of 20 rows and 3 i of 24 columns; 4 of 480 pixels are not classified.
    assert reasons[7] == f"cloud {100 * 15 * 21 / 476:.1f} % > 30 %"
    assert [row.valid is None for row in found.rows] == [True] + [False] * 8


def test_valid_shares_are_counted(series: Path, tiny: str) -> None:
    found = looked("--model", tiny, "--s2", series / "S2", "--aoi", 499900, 5599700, 500333, 5599950)
    area = found.area
    for row in found.rows:
        with rasterio.open(row.files[0]) as file:
            seen = (file.read() != 0).any(axis=0)
            top, left = (
                round((TOP - found.lattice.bounds(area)[3]) / 10),
                round((found.lattice.bounds(area)[0] - LEFT) / 10),
            )
        inside = seen[max(top, 0) : top + area.height, max(left, 0) : left + area.width]
        assert row.valid == pytest.approx(100 * inside.sum() / area.pixels)


def test_points_estimate_what_all_pixels_say(tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tiles a date that overlap, one in another zone with overviews; a cloud and a hole with straight edges."""
    size = 600
    data = reflectance(size, size)
    data[:, :200, :300] = 0
    write(tmp_path / "S2" / "S2_20180511_a.tif", data)
    left, bottom, right, top = transform_bounds("EPSG:32631", "EPSG:32632", LEFT, TOP - 10 * size, LEFT + 6000, TOP)
    width, height = round((right - left) / 10), round((top - bottom) / 10)
    far = write(tmp_path / "S2" / "S2_20180521.tif", reflectance(height, width), crs="EPSG:32632", left=left, top=top)
    with rasterio.open(far, "r+") as file:
        file.build_overviews([2, 4, 8])
    write(tmp_path / "S2" / "S2_20180511_b.tif", reflectance(size, size // 2), left=LEFT + 4500)
    classes = np.full((1, size // 2, size // 2), 4, np.uint8)
    classes[:, 100:200, 50:] = 8
    for day in ("20180511", "20180521"):
        write(tmp_path / "SCL" / f"SCL_{day}.tif", classes, names=("SCL",), res=20)
    given = ("--model", tiny, "--s2", tmp_path / "S2", "--scl", tmp_path / "SCL")
    whole = looked(*given, exact=True)
    assert whole.sampling.step == 1
    monkeypatch.setattr(shares, "COUNTED", 100 * 100)
    few = looked(*given)
    assert few.sampling.step > 5
    assert "every" in few.sampling.describe()
    # Straight edges of up to 600 pixels: at most a row of points each is on the wrong side.
    for one, other in zip(few.rows, whole.rows, strict=True):
        assert one.cloud == pytest.approx(other.cloud, abs=100 * 2 * few.sampling.step / size)
        assert one.valid == pytest.approx(other.valid, abs=100 * 2 * few.sampling.step / size)
    assert whole.rows[0].valid < 90
    assert whole.rows[0].cloud > 20


def test_a_share_near_the_limit_is_told_where_it_is_an_estimate(
    series: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = 100 * 5 * 6 / 476
    given = ("--model", tiny, "--s2", series / "S2", "--scl", series / "SCL", "--max-cloud", f"{share - 0.5}")
    assert not any("may decide otherwise" in line for line in looked(*given).warnings)
    monkeypatch.setattr(shares, "COUNTED", 500)
    assert any(f"{DAYS[2]}" in line and "may decide otherwise" in line for line in looked(*given).warnings)
    assert not any("may decide otherwise" in line for line in looked(*given, exact=True).warnings)


def test_units_that_end_a_run_are_reported_with_their_images(tmp_path: Path, tiny: str) -> None:
    for i, day in enumerate(DAYS[:4]):
        values = backscatter(*SHAPE, i)
        write_s1(tmp_path / f"S1_{day:%Y%m%d}.tif", 10 * np.log10(values) if i in (1, 2) else values)
    with pytest.raises(InputError) as raised:
        plan.make_plan(
            embed.job_of(
                embed.parser().parse_args(["--s1", f"{tmp_path}", "--model", tiny, "--output", f"{tmp_path / 'e.tif'}"])
            )
        )
    found = looked("--model", tiny, "--s1", tmp_path)
    assert found.refused == [f"{raised.value} (and 1 more images like it)"]
    assert [row.used for row in found.rows] == [True, False, False, True]
    assert [row.reason.startswith("refused: ") for row in found.rows] == [False, True, True, False]
    assert found.rows[1].high is not None
    assert found.rows[1].high < 0 < found.rows[0].low
    text = run("--s1", tmp_path, "--model", tiny)
    assert text["refused"] == found.refused
    assert "so dB" in text["dates"][1]["reason"]


def test_two_units_in_one_series(tmp_path: Path, tiny: str) -> None:
    write(tmp_path / "S2_20180511.tif", reflectance(*SHAPE))
    write(tmp_path / "S2_20180521.tif", (reflectance(*SHAPE) / 10000).astype(np.float32))
    write(tmp_path / "S2_20180531.tif", (reflectance(*SHAPE) / 10000).astype(np.float32), nodata=-1)
    found = looked("--model", tiny, "--s2", tmp_path)
    # Their types differ, so that each is right by itself: all are brought to one unit.
    assert found.refused == []
    assert all(row.high > 1000 for row in found.rows)
    write(tmp_path / "S2_20180610.tif", reflectance(*SHAPE).astype(np.float32))
    assert any("give images of one unit" in line for line in looked("--model", tiny, "--s2", tmp_path).refused)


def test_offsets_and_constant_bands_and_grids_are_warnings(tmp_path: Path, tiny: str) -> None:
    for i, day in enumerate(("20230511", "20230521")):
        values = reflectance(*SHAPE, seed=i) + 1000
        values[3] = 1000
        write(tmp_path / f"S2_{day}.tif", values)
    write(tmp_path / "S2_20230531.tif", reflectance(20, 24) + 1000, res=20)
    found = looked("--model", tiny, "--s2", tmp_path)
    text = " | ".join(found.warnings)
    assert "--s2-offset -1000" in text
    assert "band B05 holds one value alone in 2 images, such as" in text
    assert "20 m pixels" in text
    assert found.rows[2].pixels == (20.0,)


def test_images_that_a_run_passes_over_are_in_the_table(tmp_path: Path, tiny: str) -> None:
    name = "S2A_MSIL2A_20220511T105621_N0{}_R094_T31UES_20220511T150000"
    for baseline in ("301", "400"):
        write(tmp_path / f"{name.format(baseline)}.tif", reflectance(*SHAPE) + 1000)
    for day, orbit in (("20220512", 88), ("20220513", 59)):
        write_s1(tmp_path / "S1" / f"S1_{day}.tif", backscatter(*SHAPE), tags={"RELATIVE_ORBIT": str(orbit)})
    given = ("--s2", *sorted(tmp_path.glob("*.tif")), "--s1", tmp_path / "S1", "--s1-orbit", "88")
    found = looked("--model", tiny, *given)
    assert [(row.baseline, row.used, row.reason) for row in found.of("s2")] == [
        ("04.00", True, ""),
        ("03.01", False, "a newer processing baseline of it is there"),
    ]
    assert [(row.orbit, row.reason) for row in found.of("s1")] == [(88, ""), (59, "not of relative orbit 88")]


def test_everything_a_run_refuses_is_told_at_once(series: Path, tiny: str) -> None:
    found = looked(
        "--model", "unknown", "--s2", series / "S2", "--max-cloud", "5", "--s1", series / "S1", "--dates", "2020-01-01/"
    )
    assert any("unknown is not installed" in line for line in found.refused)
    assert any("--max-cloud needs the scene classification" in line for line in found.refused)
    assert sum("no image from 2020-01-01" in line for line in found.refused) == 2
    assert not any(row.used for row in found.rows)
    assert estimating.make(found, False, lambda: None) is None
    cloudy = looked(
        "--model", tiny, "--s2", series / "S2", "--scl", series / "SCL", "--dates", f"/{DAYS[7]}", "--max-cloud", "0"
    )
    assert cloudy.refused == []
    assert [row.used for row in cloudy.rows].count(True) == 1
    few = looked("--model", tiny, "--s2", series / "S2", "--memory", "1MB")
    assert estimating.make(few, False, lambda: None) is None
    assert any("GB is too little" in line for line in few.refused)


def test_gaps() -> None:
    def row(day: str, used: bool) -> survey.Row:
        return survey.Row(
            *("s2", date.fromisoformat(day), None, "", "", ("a.tif",), ("B02",), (10.0,), ("EPSG:32631",)),
            *(None, None, None, None, used, "" if used else "why"),
        )

    rows = [row("2019-11-30", True), row("2020-01-15", False), row("2020-02-01", True), row("2020-03-02", True)]
    found = gaps.find(rows, (date(2019, 11, 1), date(2020, 4, 1)))
    assert (found.days, found.longest) == (63, (date(2019, 11, 30), date(2020, 2, 1)))
    assert found.empty == ("2019-12", "2020-01", "2020-04")
    assert gaps.find(rows[1:2], (date(2020, 1, 1), date(2020, 1, 31))).longest is None
    assert "63 days" in gaps.warnings({"s2": found})[0]


@pytest.mark.parametrize("overviews", [(), (2, 4)])
def test_few_pixels_of_a_band_are_those_of_all(
    tmp_path: Path, overviews: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rows that run northwards too, in strips that end anywhere; of an overview, a pixel that it stands for."""
    data = reflectance(70, 90)
    data[:, 20:40, 30:50] = 0
    place = Affine(10, 0, LEFT, 0, 10, TOP - 700)
    path = write(tmp_path / "S2_20180511.tif", data[:, ::-1], transform=place)
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews(overviews)
    monkeypatch.setattr(reading, "STRIP_ROWS", 10)
    catalog = discover("s2", [path])
    layer = catalog.sources[0].layers[0]
    values, seen, step = reading.read_coarse(catalog.pool, layer.bands[2], layer.grid, Window(3, 5, 61, 80), 5)
    assert step == (4 if overviews else 5)
    assert values.shape == seen.shape == (-(-61 // step), -(-80 // step))
    whole = data[2, 3:64, 5:85]
    if not overviews:
        assert np.array_equal(values, whole[::step, ::step])
        assert np.array_equal(seen, whole[::step, ::step] != 0)
    else:
        for (i, j), value in np.ndenumerate(values):
            assert value in data[2, max(0, 4 * i - 4) : 4 * i + 12, max(0, 4 * j - 4) : 4 * j + 12]
        assert seen.mean() == pytest.approx((whole != 0).mean(), abs=0.03)
    catalog.close()


@pytest.mark.parametrize("more", [("--weather-gaps", "drop-date"), ("--weather-gaps", "drop-date", "--max-dates", "2")])
def test_dates_without_weather_are_left_out_as_in_a_run(tmp_path: Path, more: tuple[str, ...]) -> None:
    """The model that ships; a day of weather is missing which the second date needs."""
    stack = write_around(write_stack(tmp_path / "stack"))
    lost = FIRST_OF_STACK + timedelta(days=8)
    lines = (stack / "AGERA5.csv").read_text().splitlines(keepends=True)
    (stack / "AGERA5.csv").write_text("".join(line for line in lines if not line.startswith(f"{lost}")))
    given = ["--model", "malice-aux-sim", "--s2", str(stack / "S2"), *around(stack, "s2")]
    found = looked(*given, *more)
    made = plan.make_plan(embed.job_of(embed.parser().parse_args([*given, *more, "--output", str(tmp_path / "e.tif")])))
    made.close()
    assert [row.date for row in found.rows if row.used] == [o.date for o in made.stacks["s2"].observations]
    assert found.rows[1].reason == "no weather of its days"
    assert found.refused == []
    assert set(made.warnings) <= set(found.warnings)
    estimate = estimating.make(found, False, lambda: None, timed=len(more) > 2)
    assert estimate is not None
    assert (estimate.memory, estimate.disk) == (made.budget.total, made.disk)
    assert (estimate.seconds or 0) > 0 or len(more) == 2
    refused = looked(*given).refused
    assert len(refused) == 1
    assert f"1 day is missing ({lost})" in refused[0]
    assert "give --weather and --dem" in looked(*given[:4]).refused[0]
    assert "sees images alone, it takes no --weather" in looked("--model", "malice-sim", *given[2:]).refused[0]
