"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Files of tests that take longest. They are begun first: none of them is left to one processor in the end.
LONGEST = (
    "test_pretrain_resume.py",
    "test_embed_tiles.py",
    "test_embed_aux.py",
    "test_dataset_resume.py",
    "test_assembling.py",
    "test_finetune.py",
    "test_pretrain.py",
    "test_shipped.py",
    "test_vrt.py",
    "test_openeo_udf.py",
    "test_finetune_predict.py",
    "test_simulation.py",
    "test_workers.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Folder with ``models/`` and ``data/``: the published encoders and real Sentinel data (not in the repository)."""
    value = os.environ.get("MALICE_TESTDATA")
    if not value:
        pytest.skip("MALICE_TESTDATA is not set: the published encoders and the real data are not there")
    folder = Path(value).resolve()
    if not (folder / "models").is_dir() or not (folder / "data").is_dir():
        pytest.fail(f"MALICE_TESTDATA={value} holds no models/ and data/")
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with ``tiny``: the full architecture with random weights, both modalities."""
    from helpers_models import write_random_model

    folder = tmp_path_factory.mktemp("models")
    write_random_model(folder)
    return folder


@pytest.fixture(scope="session", params=["cpu", "cuda"])
def everywhere(request: pytest.FixtureRequest) -> str:
    """Each device of ``embed``, one after the other; a GPU where there is one."""
    from malice_core import runtime

    device: str = request.param
    problem = runtime._cuda_problem() if device == "cuda" else None
    if problem:
        pytest.skip(f"no CUDA device: {problem}")
    return device


@pytest.fixture
def tiny(store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of the random model; the store is set up for this test."""
    monkeypatch.setenv("MALICE_MODELS", str(store))
    return "tiny"


@pytest.fixture
def pretraining(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For pre-training from the command line in this process, as if each had one of its own."""
    from helpers_pretrain import alone

    from malice_core.training import runfolder

    monkeypatch.setenv(runfolder.FOLDER, "")
    with alone():
        yield


@pytest.fixture
def tuning(store: Path) -> Iterator[None]:
    """For fine-tuning from the command line in this process, with the models of ``store``."""
    from helpers_finetune import in_process

    with in_process(store):
        yield


@pytest.fixture(scope="session")
def published_store(testdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with ``malice``: the published encoders."""
    from helpers_embed import import_published

    folder = tmp_path_factory.mktemp("published")
    import_published(testdata, folder)
    return folder


@pytest.fixture
def malice(published_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of the published model; the store is set up for this test."""
    monkeypatch.setenv("MALICE_MODELS", str(published_store))
    return "malice"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB (needs the right to mount)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: " + mounted.stderr.decode().strip())
    yield folder
    subprocess.run(["umount", folder], check=True)
