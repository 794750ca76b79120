"""Clusters without labels, against scikit-learn called directly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

pytest.importorskip("sklearn")

from helpers_analysis import read, run, write
from helpers_embed import free_names
from helpers_learning import SHAPE, embedding, features

from malice_core import cluster
from malice_core.analysis.clustering import nearest
from malice_core.errors import InputError


def test_clusters_are_found_and_numbered_by_size(tmp_path: Path) -> None:
    """Three kinds far apart, of unequal number: clusters 1 to 3 are these; their centres are means."""
    kind = np.where(np.mgrid[:75, :140][0] < 10, 1, np.where(np.mgrid[:75, :140][1] < 50, 2, 0))
    rng = np.random.default_rng(0)
    values = (rng.normal(0, 0.7, (3, 16))[kind] + rng.normal(0, 0.05, (*SHAPE, 16))).transpose(2, 0, 1)
    values = values.clip(-2, 2).astype(np.float32)
    missing = np.zeros(SHAPE, bool)
    missing[60:, 100:] = True
    write(tmp_path / "e.tif", values, missing=missing)
    run(
        cluster,
        *("--input", tmp_path / "e.tif", "--clusters", 3, "--output", tmp_path / "c.tif"),
        *("--save-fit", tmp_path / "f.json"),
    )
    with rasterio.open(tmp_path / "c.tif") as file:
        found, table, tags = file.read(1), file.colormap(1), file.tags()
        assert (file.dtypes, file.nodata, file.descriptions) == (("uint8",), 0, ("cluster",))
    order = np.argsort(-np.bincount(kind[~missing]))
    wanted = np.where(missing, 0, np.argsort(order)[kind] + 1)
    np.testing.assert_array_equal(found, wanted)
    fit = json.loads((tmp_path / "f.json").read_text())
    assert fit["sizes"] == np.bincount(wanted[~missing])[1:].tolist()
    for number, centre in enumerate(fit["centres"], 1):
        np.testing.assert_allclose(centre, values[:, wanted == number].mean(axis=1), atol=0.01)
    names = json.loads(tags["MALICE_CLASSES"])
    assert names["2"]["name"] == "cluster 2"
    assert "#{:02x}{:02x}{:02x}".format(*table[2][:3]) == names["2"]["colour"]


def test_pixels_belong_to_the_nearest_centre_of_scikit_learn(tmp_path: Path) -> None:
    """All pixels in the order in which they are drawn, and scikit-learn with the same seed: the same clusters."""
    from sklearn.cluster import MiniBatchKMeans

    from malice_core.analysis import clustering
    from malice_core.analysis.sampling import keys

    embedding(tmp_path / "e.tif")
    run(cluster, "--input", tmp_path / "e.tif", "--clusters", 7, "--output", tmp_path / "c.tif", "--seed", 3)
    values = features().reshape(16, -1).T
    drawn = values[np.argsort(keys(np.arange(len(values)), 3))]
    model = MiniBatchKMeans(
        7, random_state=3, batch_size=clustering.BATCH, max_iter=clustering.PASSES, n_init=clustering.STARTS
    ).fit(drawn)
    said = model.predict(values)
    order = np.argsort(-np.bincount(said, minlength=7), kind="stable")
    np.testing.assert_array_equal(read(tmp_path / "c.tif")[0].ravel(), np.argsort(order)[said] + 1)
    # More samples than pixels change nothing, another seed does.
    centres = np.random.default_rng(0).normal(0, 1, (5, 16))
    far = ((values[:, None, :].astype(np.float64) - centres) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest(centres, values.astype(np.float64)), far.argmin(axis=1))


def test_a_fit_is_the_same_in_another_year_and_memory_changes_nothing(tmp_path: Path) -> None:
    shape = (150, 270)
    embedding(tmp_path / "e.tif", shape=shape)
    embedding(tmp_path / "later.tif", seed=4, shape=shape, year=2025)
    found = []
    for memory, threads in (("2GB", 2), ("424MB", 1)):
        run(
            cluster,
            *("--input", tmp_path / "e.tif", "--clusters", 300, "--sample", 4000, "--memory", memory),
            *("--threads", threads, "--output", tmp_path / "c.tif", "--save-fit", tmp_path / "f.json", "--overwrite"),
        )
        fit = json.loads((tmp_path / "f.json").read_text())
        found.append((read(tmp_path / "c.tif").tobytes(), fit["centres"]))
    assert found[0] == found[1]
    recorder = run(
        cluster, "--input", tmp_path / "later.tif", "--fit", tmp_path / "f.json", "--output", tmp_path / "l.tif"
    )
    assert recorder.warnings == []
    far = write(tmp_path / "far.tif", features(4, shape) * 0 + np.float32(1.5))
    recorder = run(cluster, "--input", far, "--fit", tmp_path / "f.json", "--output", tmp_path / "x.tif")
    assert "far.tif is unlike what f.json was learnt from" in recorder.warnings[0]
    with rasterio.open(tmp_path / "l.tif") as file:
        assert file.dtypes == ("uint16",)
        codes, tags = file.read(1), file.tags()
    values = features(4, shape).reshape(16, -1).T.astype(np.float64)
    wanted = nearest(np.array(fit["centres"]), values) + 1
    np.testing.assert_array_equal(codes.ravel(), wanted)
    assert tags["MALICE_FIT"] == fit["identity"]
    assert tags["MALICE_DATES_S2"].startswith("2025")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    embedding(tmp_path / "e.tif")
    run(cluster, "--input", tmp_path / "e.tif", "--output", tmp_path / "c.tif", "--save-fit", tmp_path / "f.json")
    write(tmp_path / "other.tif", features(), model="other", model_id="f" * 16)
    nowhere = np.ones(SHAPE, bool)
    write(tmp_path / "empty.tif", features(), missing=nowhere)
    write(tmp_path / "flat.tif", np.zeros((16, 3, 3), np.float32))
    write(tmp_path / "wide.tif", np.ones((16, 30, 30), np.float32))
    write(tmp_path / "damaged.tif", (features() * 1e30).astype(np.float32))
    damaged = json.loads((tmp_path / "f.json").read_text())
    damaged["centres"][0][0] = None
    (tmp_path / "bad.json").write_text(json.dumps(damaged))
    (tmp_path / "pca.json").write_text(json.dumps({"tool": "pca", "schema": 1}))
    before = free_names(tmp_path)
    for name, more, told in (
        ("other", ["--fit", tmp_path / "f.json"], r"f\.json is of model tiny .*other\.tif of other"),
        ("e", ["--fit", tmp_path / "f.json", "--clusters", 3], "--clusters is of a fit that is made"),
        ("e", ["--fit", tmp_path / "bad.json"], "is damaged"),
        ("e", ["--fit", tmp_path / "pca.json"], r"no fit of malice_core\.cluster"),
        ("e", ["--fit", tmp_path / "none.json"], "cannot read"),
        ("e", ["--clusters", 1], "a number of clusters, 2 to 1000"),
        ("e", ["--clusters", 50, "--sample", 20], "fewer pixels than --clusters 50"),
        ("flat", ["--clusters", 2], "1 different pixels with data"),
        ("wide", ["--clusters", 2], "1 different pixels with data"),
        ("damaged", ["--clusters", 2], r"as large as [0-9.]+e\+30, no embedding does"),
        ("empty", [], "no pixel with data"),
    ):
        with pytest.raises(InputError, match=told):
            run(cluster, "--input", tmp_path / f"{name}.tif", "--output", tmp_path / "x.tif", *more)
    assert free_names(tmp_path) == before
