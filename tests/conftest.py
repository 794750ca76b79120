"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
