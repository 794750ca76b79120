"""docs/openeo.md: the UDF, the job and the local run it shows are run here, without the service."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from malice_core import simulate

openeo = pytest.importorskip("openeo", reason="openeo is not installed: pip install 'malice-core[openeo]'")
xarray = pytest.importorskip("xarray")

from helpers_openeo import cube_of, run  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openeo") / "small"
    simulate.write(simulate.Spec(height=36, width=43, s2_dates=3, s1_dates=2), folder)
    return folder


def documented() -> list[str]:
    """The Python of docs/openeo.md: the UDF, the job, the local run."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "openeo.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_documented_job_is_a_process_graph_of_the_service(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a connection that sends nothing; its UDF and context are then run on a chunk of that size."""
    from openeo.metadata import CollectionMetadata
    from openeo.rest.datacube import DataCube
    from openeo.udf import execute_local_udf

    udf, script, _ = documented()
    jobs = []

    class Connection:
        def authenticate_oidc(self) -> Connection:
            return self

        def load_collection(self, name: str, **options: Any) -> DataCube:
            cube = DataCube.load_collection(name, connection=None, fetch_metadata=False, **options)
            axes: dict[str, Any] = {axis: {"type": "spatial", "axis": axis} for axis in ("x", "y")}
            axes |= {"t": {"type": "temporal"}, "bands": {"type": "bands", "values": options["bands"]}}
            cube.metadata = CollectionMetadata({"cube:dimensions": axes})
            return cube

    class Job:
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: self

    def create_job(cube: Any, **options: Any) -> Job:
        jobs.append((cube.flat_graph(), options))
        return Job()

    monkeypatch.setattr(openeo, "connect", lambda url: Connection())
    monkeypatch.setattr(openeo.rest.result.SaveResult, "create_job", create_job)
    monkeypatch.chdir(tmp_path)
    Path("udf.py").write_text(udf)
    exec(script, {})
    ((graph, options),) = jobs
    assert options["job_options"]["udf-dependency-archives"][1].endswith("#malice_model")
    order = ["loadcollection1", "resamplespatial1", "applyneighborhood1", "reducedimension1", "renamelabels1"]
    assert list(graph) == [*order, "filterbbox1", "saveresult1"]
    arguments = graph["applyneighborhood1"]["arguments"]
    ((_, node),) = arguments["process"]["process_graph"].items()
    context = node["arguments"]["context"]
    assert {one["dimension"]: one["value"] for one in arguments["size"]} == {"x": context["size"], "y": context["size"]}
    assert {one["value"] for one in arguments["overlap"]} == {context["overlap"]}
    wanted = graph["loadcollection1"]["arguments"]["bands"]
    # The service would have unpacked the model there.
    shutil.copytree(ROOT / "models" / "malice-sim", "malice_model")
    cube = xarray.concat([cube_of(small / "S2"), cube_of(small / "SCL")], dim="bands").sel(bands=wanted)
    result = execute_local_udf(openeo.UDF(code=node["arguments"]["udf"], context=context), cube)
    found = result.get_datacube_list()[0].get_array()
    assert found.shape == (640, 36, 43)
    assert graph["renamelabels1"]["arguments"]["target"] == list(found.coords["bands"].values)


def test_the_documented_local_run_runs(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    udf, _, script = documented()
    monkeypatch.chdir(tmp_path)
    Path("udf.py").write_text(udf)
    cube_of(small / "S1").to_dataset("bands").to_netcdf("cube.nc")
    found: dict[str, Any] = {}
    exec(script, found)
    assert found["embedding"].shape == (640, 36, 43)
    np.testing.assert_array_equal(
        found["embedding"].values[:64], run(cube_of(small / "S1"), model="malice-sim").values[:64]
    )
