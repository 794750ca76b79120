"""Real cubes of the openEO service: what they lack is told, and what they have agrees with the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from malice_core.errors import InputError

pytest.importorskip("openeo", reason="openeo is not installed: pip install 'malice-core[openeo]'")
xarray = pytest.importorskip("xarray")

from helpers_openeo import TOLERANCE, embed, engine, largest  # noqa: E402

from malice_core import openeo_udf  # noqa: E402


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has seen no chunk yet, with the models that ship."""
    monkeypatch.setattr(openeo_udf, "_kept", openeo_udf._Kept())


def test_real_cubes_are_refused_for_what_they_lack(testdata: Path) -> None:
    folder = testdata / "data" / "openeo_cubes"
    file = folder / "worldcereal_preprocessed_inputs.nc"
    with pytest.raises(InputError, match="no band B8A of Sentinel-2 L2A; it has S2-L2A-B02"):
        embed(file)
    with pytest.raises(InputError, match=r"S1-SIGMA0-VV, S1-SIGMA0-VH\): .*coded integers.*20\*log10\(DN\) - 83"):
        embed(file, sensor="s1")
    with pytest.raises(InputError, match="no band B02, B03, B05, B06, B07, B8A, B12"):
        embed(folder / "gfmap_cdse_sentinel2_l2a.nc")


def test_real_radar_agrees_with_the_engine(testdata: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """WorldCereal's composites, decoded as the message says, as a cube and as the engine's files."""
    file = testdata / "data" / "openeo_cubes" / "worldcereal_preprocessed_inputs.nc"
    data = xarray.open_dataset(file)
    cube = data[["S1-SIGMA0-VV", "S1-SIGMA0-VH"]].to_array("bands").astype(np.float32)
    cube = 10 ** ((20 * np.log10(cube) - 83) / 10)
    found = embed(cube)
    assert "composites" in caplog.text
    left, top = float(data.x[0]) - 5, float(data.y[0]) + 5
    for index, label in enumerate(data.t.values):
        name = tmp_path / f"S1_{f'{label}'[:10].replace('-', '')}.tif"
        shape = {"height": data.sizes["y"], "width": data.sizes["x"], "count": 2}
        place = rasterio.transform.from_origin(left, top, 10, 10)
        with rasterio.open(name, "w", driver="GTiff", dtype="float32", crs=32631, transform=place, **shape) as target:
            target.write(cube.values[:, index])
            target.descriptions = ("VV", "VH")
    assert largest(found.values, engine(tmp_path / "any", "--s1", tmp_path)) < TOLERANCE
