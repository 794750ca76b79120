"""From training to prediction with the same images: dates and clouds, stopping, formats, both sensors."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import rasterio
from onnx import numpy_helper

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("torchmetrics")

from helpers_cluster import require_same_when_sent  # noqa: E402
from helpers_embed import Recorder  # noqa: E402
from helpers_finetune import HEIGHT, WIDTH, in_process, settings, tune, write_pastis, write_scene  # noqa: E402
from helpers_pretrain import one_line  # noqa: E402
from helpers_stack import write  # noqa: E402

from malice_core import classifier, embed, finetune, models  # noqa: E402
from malice_core.blocks import environment  # noqa: E402
from malice_core.cancelling import Cancel  # noqa: E402
from malice_core.classes import ClassLayout  # noqa: E402
from malice_core.errors import Cancelled, MaliceError, ModelError  # noqa: E402
from malice_core.plan import make_plan  # noqa: E402
from malice_core.series import Series, compared  # noqa: E402
from malice_core.training.finetuning.pastis import Pastis  # noqa: E402
from malice_core.training.finetuning.sites import Site  # noqa: E402

pytestmark = pytest.mark.usefixtures("tuning")

#: Columns that are labelled.
LABELLED = 32
DAYS = ("20230301", "20230530", "20230828")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of the left part, and clouds: over rows 0 to 3 on the first date, right of the labels on the second."""
    folder = write_scene(tmp_path_factory.mktemp("scene"))
    with rasterio.open(folder / "labels.tif") as file:
        values = file.read()
    write(folder / "left.tif", values[..., :LABELLED], names=None)
    for number, day in enumerate(DAYS):
        classes = np.full((1, HEIGHT, WIDTH), 4, np.uint8)
        if number == 0:
            classes[:, :4] = 9
        if number == 1:
            classes[..., LABELLED:] = 9
        write(folder / "SCL" / f"SCL_{day}.tif", classes, names=("SCL",))
    return folder


def labelled(scene: Path, *sensors: str) -> list[str]:
    return [f"data.labels={scene / 'left.tif'}", *(f"data.{s}={scene / s.upper()}" for s in sensors)]


@pytest.fixture(scope="module")
def trained(scene: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on Sentinel-2 whose dates passed over the labels."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with in_process(store):
        more = ["data.max_cloud=20", "head=linear", "train.trainer.max_epochs=1"]
        assert tune(folder, *labelled(scene, "s2"), f"data.scl={scene / 'SCL'}", *more) == 0
    return folder


def predict(run: Path, output: Path, *given: object, reporter: Recorder | None = None, cancel: Any = None) -> Recorder:
    """A prediction in this process; errors are raised as they are."""
    reporter = reporter or Recorder()
    options = finetune.predict_parser().parse_args([*map(str, (run, "--output", output, "--threads", 1, *given))])
    finetune.predict(options, reporter, cancel or Cancel())
    return reporter


def read(path: Path) -> np.ndarray[Any, Any]:
    with rasterio.open(path) as file:
        values: np.ndarray[Any, Any] = file.read()
    return values


# Dates and clouds


def test_clouds_are_counted_over_the_labels_and_masked(scene: Path) -> None:
    given = [*labelled(scene, "s2"), f"data.scl={scene / 'SCL'}"]
    site = Site(settings(*given, "data.max_cloud=9", "data.mask_clouds=true"), ("s2",))
    try:
        # 4 of 40 rows are more than 9 percent; what is cloudy beside the labels does not count.
        assert site.facts["dates"]["s2"] == ["2023-05-30", "2023-08-28"]
        assert site.series["s2"].masked == (3, 8, 9, 10)
        inside = site.view(0, "s2").observed[0, :, site.halo : site.halo + HEIGHT, site.halo : site.halo + WIDTH]
        assert inside[1].all()
        np.testing.assert_array_equal(inside[0].numpy(), np.tile(np.arange(WIDTH) < LABELLED, (HEIGHT, 1)))
    finally:
        site.close()


def test_so_many_dates_at_most_evenly_spread(scene: Path) -> None:
    site = Site(settings(*labelled(scene, "s2", "s1"), "data.max_dates=2"), ("s2", "s1"))
    site.close()
    for sensor in ("s2", "s1"):
        assert site.facts["dates"][sensor] == ["2023-03-01", "2023-08-28"]
        assert site.view(0, sensor).images.shape[1] == 2
        assert (site.series[sensor].most, site.series[sensor].options["max_dates"]) == (2, 2)


def test_a_classifier_knows_the_dates_it_was_trained_on(trained: Path, scene: Path, tmp_path: Path) -> None:
    """With the same options on the same images they are those of prediction, and nothing is said."""
    known = classifier.read(trained).series["s2"]
    assert known.dates == (date(2023, 3, 1), date(2023, 5, 30), date(2023, 8, 28))
    assert (known.least, known.most, known.masked) == (3, 3, ())
    assert known.options == {"max_cloud": 20, "max_dates": None, "s2_offset": "auto", "dates": None}
    told = predict(trained, tmp_path / "c.tif", "--s2", scene / "S2", "--dry-run")
    found = [one["date"] for one in told.plans[0]["modalities"]["s2"]["dates"]]
    assert found == [f"{day}" for day in known.dates]
    assert not [line for line in told.warnings if "training" in line]


def test_classes_may_be_computed_by_other_processes(trained: Path, scene: Path, tmp_path: Path) -> None:
    layout = ClassLayout(classifier.read(trained), tmp_path / "p.tif")
    given = ["--s2", f"{scene / 'S2'}", "--block", "16", "--output", f"{tmp_path / 'c.tif'}"]
    options = finetune.predict_parser().parse_args([f"{trained}", *given])
    with environment():
        require_same_when_sent(make_plan(embed.job_of(options), layout), tmp_path)
    pytest.importorskip("distributed")
    given = ["--s2", scene / "S2", "--block", 16]
    for name, more in (("here", []), ("dask", ["--dask", "local:1"])):
        probabilities = ["--probabilities", tmp_path / f"{name}_p.tif"]
        predict(trained, tmp_path / f"{name}.tif", *given, *probabilities, *more)
    for suffix in (".tif", "_p.tif"):
        np.testing.assert_array_equal(read(tmp_path / f"here{suffix}"), read(tmp_path / f"dask{suffix}"))


def test_other_dates_in_prediction_are_told(trained: Path, scene: Path, tmp_path: Path) -> None:
    """The same largest share of clouds leaves another date out where the area is another one."""
    given = ["--s2", scene / "S2", "--scl", scene / "SCL", "--max-cloud", 20, "--dry-run"]
    (line,) = [line for line in predict(trained, tmp_path / "c.tif", *given).warnings if "training" in line]
    assert "S2 2 dates for 3" in line
    given = ["--s2", scene / "S2", "--scl", scene / "SCL", "--mask-clouds", "--dates", "2023-03-01/2023-03-01"]
    told = predict(trained, tmp_path / "c.tif", *given, "--dry-run").warnings
    (line,) = [line for line in told if "training" in line]
    for part in ("1 date for 3", "0 days from first to last for 180", "scene classes 3, 8, 9, 10 masked for none"):
        assert part in line


def test_series_are_compared_by_what_matters() -> None:
    whole = Series(10, 10, date(2023, 3, 1), date(2023, 9, 1), (59, 88), (3, 8))
    same = replace(whole, first=date(2024, 3, 20), last=date(2024, 9, 10), least=8, most=8, orbits=(59,))
    assert compared({"s1": same}, {"s1": whole}) is None
    assert compared({"s1": same}, {}) is None
    for change, told in (
        ({"least": 7, "most": 7}, "S1 7 dates for 10"),
        ({"least": 14, "most": 14}, "14 dates for 10"),
        ({"last": date(2024, 12, 1)}, "256 days from first to last for 184"),
        ({"first": date(2023, 10, 1), "last": date(2024, 4, 1)}, "10-01 to 04-01 for 03-01 to 09-01"),
        ({"orbits": (161,)}, "orbit 161 for 59, 88"),
        ({"masked": ()}, "none masked for scene classes 3, 8"),
    ):
        line = compared({"s1": replace(same, **change)}, {"s1": whole})  # type: ignore[arg-type]
        assert line is not None
        assert told in line
        assert line.count(" for ") == told.count(" for ")
    # Whole years have no season, and unknown orbits differ from none.
    year = replace(whole, last=date(2024, 3, 1))
    later = replace(year, first=date(2024, 9, 1), last=date(2025, 9, 1), orbits=())
    assert compared({"s1": later}, {"s1": year}) is None
    assert Series.read(json.loads(json.dumps(whole.plain()))) == whole


def test_series_that_were_tampered_with_are_refused(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained / "classifier", tmp_path / "c")
    content = json.loads((folder / "classifier.json").read_text())
    plain = content["series"]["s2"]
    for bad in (3, {"s2": 3}, {"s2": {}}, {"s2": plain | {"least": "x"}}, {"s2": plain | {"first": "2023"}}):
        (folder / "classifier.json").write_text(json.dumps(content | {"series": bad}))
        with pytest.raises(ModelError, match="series of images of training"):
            classifier.read(folder)
    # Those of before were written without.
    del content["series"]
    (folder / "classifier.json").write_text(json.dumps(content))
    assert classifier.read(folder).series == {}


def test_patches_have_dates_of_their_own(tmp_path: Path) -> None:
    places = Pastis(settings(f"data.pastis={write_pastis(tmp_path / 'p')}"), ("s2", "s1"))
    s2, s1 = places.series["s2"], places.series["s1"]
    assert (s2.least, s2.most, s2.first, s2.last) == (4, 4, date(2018, 9, 24), date(2019, 4, 1))
    assert (s1.least, s1.most, s1.dates) == (3, 3, ())


# Prediction


class Impatient(Recorder):
    """Stops the run when some blocks are done."""

    def __init__(self, cancel: Cancel) -> None:
        super().__init__()
        self.cancel = cancel

    def progress(self, done: int, total: int, step: str) -> None:
        super().progress(done, total, step)
        if done > 0.4 * total:
            self.cancel.set()


def test_a_cancelled_prediction_goes_on_where_it_was(trained: Path, scene: Path, tmp_path: Path) -> None:
    images = ["--s2", scene / "S2", "--block", 24]
    whole = (tmp_path / "c.tif", "--probabilities", tmp_path / "p.tif", "--counts", tmp_path / "n.tif")
    predict(trained, *whole, *images)
    cut = (tmp_path / "d.tif", "--probabilities", tmp_path / "q.tif", "--counts", tmp_path / "m.tif")
    cancel = Cancel()
    with pytest.raises(Cancelled):
        predict(trained, *cut, *images, reporter=Impatient(cancel), cancel=cancel)
    assert not (tmp_path / "d.tif").exists()
    done = len(list((tmp_path / "d.tif.malice").rglob("*")))
    assert done
    told = predict(trained, *cut, *images, "--resume")
    # The first thing it tells is what was there.
    assert told.shares[0] > 0
    for one, other in zip("cpn", "dqm", strict=True):
        np.testing.assert_array_equal(read(tmp_path / f"{one}.tif"), read(tmp_path / f"{other}.tif"))
    assert not (tmp_path / "d.tif.malice").exists()


def test_a_cloud_optimised_raster_holds_the_same(trained: Path, scene: Path, tmp_path: Path) -> None:
    for name in ("gtiff", "cog"):
        shares = ["--probabilities", tmp_path / f"{name}_p.tif"]
        predict(trained, tmp_path / f"{name}.tif", "--s2", scene / "S2", "--format", name, *shares)
    for kind in ("", "_p"):
        np.testing.assert_array_equal(read(tmp_path / f"gtiff{kind}.tif"), read(tmp_path / f"cog{kind}.tif"))
        with rasterio.open(tmp_path / f"cog{kind}.tif") as file, rasterio.open(tmp_path / f"gtiff{kind}.tif") as plain:
            assert (file.overviews(1), plain.overviews(1)) == ([2], [])
            assert (file.nodata, file.descriptions) == (plain.nodata, plain.descriptions)
            assert file.tags()["MALICE_CLASSES"] == plain.tags()["MALICE_CLASSES"]
            if not kind:
                assert file.colormap(1) == plain.colormap(1)
    assert (read(tmp_path / "cog_p.tif").astype(int).sum(axis=0) - 100).max() <= 2


def test_both_encoders_are_trained_together(scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Both change, and the raster is what the run's own scores are of."""
    run = tmp_path / "run"
    more = ["mode=full", "head=linear", "train.trainer.max_epochs=1", "train.batch_size=1", "train.encoder_lr=0.001"]
    more.append("data.max_dates=1")  # quicker
    assert tune(run, *labelled(scene, "s2", "s1"), *more) == 0
    found, begun = classifier.read(run), models.load("tiny")
    assert found.sensors == ("s2", "s1") == tuple(found.series)
    for sensor in found.sensors:
        for role in ("spatial", "temporal"):
            assert found.card.graph_bytes(sensor, role) != begun.graph_bytes(sensor, role)
    predict(run, tmp_path / "c.tif", "--s2", scene / "S2", "--s1", scene / "S1", "--max-dates", 1)
    site = Site(settings(*labelled(scene, "s2", "s1")), ("s2", "s1"))
    target = site.target(0, "test")[:HEIGHT, :WIDTH]
    site.close()
    known = target >= 0
    overall = (read(tmp_path / "c.tif")[0][: target.shape[0], : target.shape[1]][known] - 1 == target[known]).mean()
    scores = json.loads((run / "scores.json").read_text())
    assert overall == pytest.approx(scores["test"]["mean"]["overall"], abs=1.5 / known.sum())
    # A sensor that is left out in prediction is asked for.
    capfd.readouterr()
    assert finetune.main(["predict", f"{run}", "--s1", f"{scene / 'S1'}", "--output", f"{tmp_path / 'd.tif'}"]) == 2
    assert "give --s2 too" in one_line(capfd)


@pytest.mark.parametrize("how", ["not a number", "fewer"])
def test_a_head_that_does_not_give_its_classes_makes_no_raster(
    how: str, trained: Path, scene: Path, tmp_path: Path
) -> None:
    """Its checksum is right: somebody made it so, or a weight was no number."""
    folder = shutil.copytree(trained / "classifier", tmp_path / "c")
    graph = onnx.load_from_string((folder / "head.onnx").read_bytes())
    bias = next(one for one in graph.graph.initializer if list(one.dims) == [3])
    values = numpy_helper.to_array(bias).copy()
    if how == "fewer":
        # One number a pixel, whatever the graph says of its output.
        weight = next(one for one in graph.graph.initializer if list(one.dims) == [640, 3])
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, :1], weight.name))
        values = values[:1]
    else:
        values[1] = np.nan
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    content = json.loads((folder / "classifier.json").read_text())
    (folder / "head.onnx").write_bytes(graph.SerializeToString())
    content["head"] = hashlib.sha256(graph.SerializeToString()).hexdigest()
    (folder / "classifier.json").write_text(json.dumps(content))
    with pytest.raises(MaliceError):
        predict(folder, tmp_path / "c.tif", "--s2", scene / "S2")
    assert not (tmp_path / "c.tif").exists()


def test_names_of_classes_are_one_line_wherever_they_come_from(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained / "classifier", tmp_path / "c")
    content = json.loads((folder / "classifier.json").read_text())
    content["classes"][0]["name"] = "win\nter\x00wheat\ud800"
    (folder / "classifier.json").write_text(json.dumps(content))
    assert classifier.read(folder).classes[0].name == "win ter wheat?"
