"""``malice_core.change`` against numpy and scipy on whole arrays, and its statistics on differences that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers_analysis import Array, events, process, read, run, smooth, tags_of, write
from helpers_embed import free_names
from scipy import stats

from malice_core import change
from malice_core.analysis import changes
from malice_core.errors import InputError, OutputError

SHAPE = (150, 290)


@pytest.fixture(scope="module")
def years() -> tuple[Array, Array, Array]:
    """Two embeddings that differ by noise, and by more in a part; (rows, columns) of which part that is."""
    rng = np.random.default_rng(5)
    before = smooth(16, SHAPE)
    mixing = rng.normal(0, 0.03, (16, 16))
    noise = np.einsum("ij,jrc->irc", mixing, rng.normal(0, 1, (16, *SHAPE))) + 0.01
    where = np.zeros(SHAPE, bool)
    where[20:60, 30:100] = True
    after = (before + noise + where * rng.normal(0, 0.6, (16, 1, 1))).clip(-2, 2).astype(np.float32)
    return before, after, where


@pytest.fixture
def files(tmp_path: Path, years: tuple[Array, Array, Array]) -> tuple[Path, Path]:
    gone = np.zeros((2, *SHAPE), bool)
    gone[0, :5], gone[1, :, :7] = True, True
    return (
        write(tmp_path / "b.tif", years[0], missing=gone[0]),
        write(tmp_path / "a.tif", years[1], missing=gone[1], year=2025),
    )


def distance(before: Array, after: Array, measure: str) -> Array:
    one, other = before.astype(np.float64), after.astype(np.float64)
    if measure == "euclidean":
        found: Array = np.sqrt(((one - other) ** 2).sum(axis=0))
        return found
    lengths = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
    cosine: Array = 1 - (one * other).sum(axis=0) / lengths
    return cosine


def best_split(found: Array) -> float:
    """Otsu's threshold by his formula for every split of all distances."""
    ordered = np.sort(found.ravel())
    below = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)
    one, other = sums[:-1] / below, (sums[-1] - sums[:-1]) / (len(ordered) - below)
    return float(ordered[np.argmax(below * (len(ordered) - below) * (one - other) ** 2)])


@pytest.mark.parametrize("measure", change.MEASURES)
def test_bands_are_those_of_numpy_on_the_whole_array(
    tmp_path: Path, files: tuple[Path, Path], years: tuple[Array, Array, Array], measure: str
) -> None:
    before, after = files
    output = tmp_path / "c.tif"
    recorder = run(change, "--before", before, "--after", after, "--output", output, "--measure", measure)
    assert not recorder.warnings
    assert recorder.shares[-1] == 1
    found, significance, changed = read(output)
    inside = (slice(5, None), slice(7, None))
    assert np.isnan(read(output)[:, :5]).all()
    assert np.isnan(read(output)[:, :, :7]).all()
    wanted = distance(years[0], years[1], measure)[inside]
    np.testing.assert_allclose(found[inside], wanted, rtol=1e-6, atol=1e-9)
    tags = tags_of(output)
    threshold = float(tags["MALICE_THRESHOLD"])
    assert threshold == pytest.approx(best_split(wanted), rel=1e-3)
    np.testing.assert_array_equal(changed[inside] == 1, found[inside] > threshold)
    assert set(np.unique(changed[inside])) == {0, 1}
    assert tags["MALICE_CHANGED"] == f"{int((changed == 1).sum())} of {wanted.size} pixels"
    # The changed part is found, nearly all of it and hardly anything else.
    where = years[2][inside]
    assert ((changed[inside] == 1) == where).mean() > 0.99
    # Significance grows with the distance, and one minus it is evenly spread where nothing changed. (Not that of
    # cosines here: their vectors have length 1, so that this noise counts more where vectors are short.)
    order = np.argsort(found[inside], axis=None)
    assert (np.diff(significance[inside].ravel()[order]) >= 0).all()
    alike = significance[inside][~where]
    for level in (0.05, 0.01) if measure == "euclidean" else ():
        share = (1 - alike < level).mean()
        assert level / 4 < share < 1.25 * level, (level, share)
    assert (significance[inside][where] > 0.99).mean() > 0.99
    assert tags["MALICE_DATES_S2"] == "2024-03-01,2024-06-01"
    assert tags["MALICE_DATES_S2_AFTER"] == "2025-03-01,2025-06-01"
    with rasterio.open(output) as file:
        assert file.descriptions == ("distance", "significance", "changed")


@pytest.mark.parametrize("freedom", [1, 4.5, 60, 900])
def test_the_distribution_of_the_unchanged_is_found(freedom: float) -> None:
    rng = np.random.default_rng(2)
    squares = 0.3 * rng.chisquare(freedom, 400_000)
    for measure in change.MEASURES:
        given = (squares if measure == "cosine" else np.sqrt(squares)).astype(np.float32)
        found = changes.Unchanged.of(changes.histogram(given), measure)
        assert found is not None
        assert found.freedom == pytest.approx(freedom, rel=0.03)
        assert found.scale == pytest.approx(0.3, rel=0.03)
        wanted = stats.chi2.cdf(squares / found.scale, found.freedom)
        np.testing.assert_allclose(found.significance(given), wanted, atol=1e-5)


def test_quantiles_and_thresholds_of_bins() -> None:
    rng = np.random.default_rng(3)
    for given in (
        np.concatenate([rng.gamma(2, 1e-4, 3000), rng.normal(0.5, 0.05, 500)]),
        np.concatenate([rng.gamma(2, 1, 3000), rng.normal(400, 50, 50)]),
        np.array([0.0, 0.0, 0.0, 2.0]),
    ):
        exact = given.astype(np.float32)
        counts = changes.histogram(exact)
        assert counts.sum() == len(given)
        threshold = changes.otsu(counts)
        assert threshold is not None
        assert (exact > threshold).sum() == (exact > best_split(exact.astype(np.float64))).sum()
        for share in (0.25, 0.5):
            wanted = np.quantile(exact, share, method="inverted_cdf")
            assert changes.quantile(counts, share) == pytest.approx(wanted, rel=1e-3, abs=1e-30)
    assert changes.otsu(changes.histogram(np.full(9, 0.5, np.float32))) is None
    # A pixel on the end of a bin belongs to what its bin does.
    exact = np.array([1.0, 1.0, 2.0, 2.0], np.float32)
    threshold = changes.otsu(changes.histogram(exact))
    assert threshold is not None
    np.testing.assert_array_equal(exact > threshold, [False, False, True, True])
    largest = np.array([0, np.finfo(np.float32).max], np.float32)
    assert changes.histogram(largest).sum() == 2
    assert changes.otsu(changes.histogram(largest)) is not None


def test_small_cosine_distances_keep_their_digits() -> None:
    rng = np.random.default_rng(4)
    one = rng.normal(0, 1, (640, 50)).astype(np.float32)
    other = (one + rng.normal(0, 1e-6, one.shape)).astype(np.float32)
    wide, wider = one.astype(np.longdouble), other.astype(np.longdouble)
    units = [vectors / np.sqrt((vectors**2).sum(axis=0)) for vectors in (wide, wider)]
    wanted = ((units[0] - units[1]) ** 2).sum(axis=0) / 2
    np.testing.assert_allclose(changes.distances(one, other, "cosine"), wanted.astype(np.float64), rtol=1e-6)
    nothing = np.zeros((640, 2), np.float32)
    np.testing.assert_array_equal(changes.distances(nothing, nothing, "cosine"), 0)
    np.testing.assert_array_equal(changes.distances(one, one, "cosine"), 0)
    np.testing.assert_allclose(changes.distances(one, -one, "cosine"), 2, rtol=1e-6)


def test_neither_memory_nor_threads_change_a_bit(tmp_path: Path, files: tuple[Path, Path]) -> None:
    before, after = files
    outputs = []
    for memory, threads in (("310MB", 1), ("330MB", 3), ("2GB", 2)):
        output = tmp_path / f"{memory}.tif"
        run(
            *(change, "--before", before, "--after", after, "--output", output),
            *("--memory", memory, "--threads", threads),
        )
        outputs.append((read(output).tobytes(), tags_of(output)))
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_threshold_of_ones_own(tmp_path: Path, files: tuple[Path, Path]) -> None:
    before, after = files
    run(change, "--before", before, "--after", after, "--output", tmp_path / "c.tif", "--threshold", "0.5")
    found, _, changed = read(tmp_path / "c.tif")
    there = np.isfinite(found)
    np.testing.assert_array_equal(changed[there] == 1, found[there] > 0.5)


def test_types_may_differ(tmp_path: Path, files: tuple[Path, Path], years: tuple[Array, Array, Array]) -> None:
    pytest.importorskip("zarr")
    before, after = files
    other = write(tmp_path / "z.zarr", years[1], dtype="int16")
    run(change, "--before", before, "--after", after, "--output", tmp_path / "c.tif", "--measure", "euclidean")
    run(change, "--before", before, "--after", other, "--output", tmp_path / "d.tif", "--measure", "euclidean")
    one, two = read(tmp_path / "c.tif")[0], read(tmp_path / "d.tif")[0]
    both = np.isfinite(one) & np.isfinite(two)
    assert both.sum() > 0.9 * both.size
    assert np.abs(one - two)[both].max() < 0.001


def test_nothing_to_compare_is_said(tmp_path: Path, years: tuple[Array, Array, Array]) -> None:
    values = years[0][:, :20, :30]
    before = write(tmp_path / "b.tif", values)
    nothing = write(tmp_path / "n.tif", values, missing=np.ones((20, 30), bool))
    same = write(tmp_path / "s.tif", values)
    recorder = run(change, "--before", before, "--after", nothing, "--output", tmp_path / "c.tif")
    assert recorder.warnings == ["no pixel has data in both embeddings"]
    assert np.isnan(read(tmp_path / "c.tif")).all()
    recorder = run(change, "--before", before, "--after", same, "--output", tmp_path / "d.tif")
    assert len(recorder.warnings) == 2
    found, significance, changed = read(tmp_path / "d.tif")
    assert (found == 0).all()
    assert np.isnan(significance).all()
    assert (changed == 0).all()
    one, two = (write(tmp_path / f"{i}.tif", years[i][:, 30:31, 40:41]) for i in (0, 1))
    recorder = run(change, "--before", one, "--after", two, "--output", tmp_path / "p.tif", "--threshold", "0.001")
    found, _, changed = read(tmp_path / "p.tif")
    assert found[0, 0] == pytest.approx(distance(years[0], years[1], "euclidean")[30, 40], rel=1e-6)
    assert changed[0, 0] == 1


def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, files: tuple[Path, Path], years: tuple[Array, Array, Array]
) -> None:
    before, after = files
    values = years[1]
    others = {
        "model": (
            write(tmp_path / "m.tif", values, model="big", model_id="ffff"),
            r"model tiny \(0123.*of big \(f",
        ),
        "sensor": (write(tmp_path / "r.tif", values, sensors=("s1",)), "sensors S2, .* of S1"),
        "queries": (write(tmp_path / "q.tif", values, queries=(0, 1)), "queries 0, .* of 0,1"),
        "moved": (write(tmp_path / "o.tif", values, origin=(500010.0, 5600000.0)), "not on the same pixels"),
        "smaller": (write(tmp_path / "s.tif", values[:, :-1]), "not on the same pixels"),
    }
    names = free_names(tmp_path)
    for path, words in others.values():
        with pytest.raises(InputError, match=words) as error:
            run(change, "--before", before, "--after", path, "--output", tmp_path / "c.tif")
        assert path.name in f"{error.value}"
        assert before.name in f"{error.value}"
    start = ("--before", before, "--after")
    for arguments, words in (
        ([*start, before, "--output", tmp_path / "c.tif"], "are both"),
        ([*start, after, "--output", tmp_path / "c.tif", "--threshold", "-1"], "otsu, or a distance, 0 to"),
        ([*start, after, "--output", tmp_path / "c.tif", "--threshold", "nan"], "otsu, or a distance, 0 to"),
        ([*start, after, "--output", after, "--overwrite"], "is an input"),
        ([*start, after, "--output", tmp_path / "c.png"], "ends in .tif"),
    ):
        with pytest.raises((InputError, OutputError), match=words):
            run(change, *arguments)
    assert free_names(tmp_path) == names


def test_the_command_line(tmp_path: Path, files: tuple[Path, Path]) -> None:
    before, after = files
    done = process(
        *("change", "--before", before, "--after", after, "--output", tmp_path / "c.tif", "--progress", "json"),
        *("--memory", "400MB"),
    )
    assert done.returncode == 0, done.stderr
    assert events(done.stdout)[-1]["event"] == "done"
    assert free_names(tmp_path) == ["a.tif", "b.tif", "c.tif"]
