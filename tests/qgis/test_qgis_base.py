"""What all algorithms share: errors of the system become sentences of the plugin."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from malice_qgis.algorithms.base import EngineAlgorithm
from qgis.core import QgsProcessingContext, QgsProcessingException

from helpers_qgis import Log


class Stumbling(EngineAlgorithm):
    """Ends with an error of the system."""

    ID = "stumbling"
    NEEDS_ENGINE = False
    error = OSError()

    def displayName(self) -> str:
        return self.ID

    def definitions(self) -> tuple[()]:
        return ()

    def work(self, *_: Any) -> dict[str, Any]:
        raise self.error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/r.html.part"),
            "/data/r.html cannot be read or written: Permission denied. Choose another folder, or make room.",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "A file cannot be read or written: No space left on device. Is the disk full, or a folder closed to you?",
        ),
        (OSError("two\nlines"), "A file cannot be read or written: two lines. Is the disk full"),
    ],
)
def test_errors_of_the_system_are_told_as_people_read_them(
    qgis_app: object, error: OSError, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stumbling, "error", error)
    algorithm = Stumbling()
    algorithm.initAlgorithm()
    with pytest.raises(QgsProcessingException) as caught:
        algorithm.run({}, QgsProcessingContext(), Log(), {}, False)
    assert str(caught.value).startswith(says)
