"""Says in every test run whether the QGIS tests ran or why they did not."""

from __future__ import annotations

import pytest


def test_qgis_can_be_imported() -> None:
    pytest.importorskip("qgis.core", reason="QGIS is not in this environment; tools/qgis_tests.sh runs the QGIS tests")
