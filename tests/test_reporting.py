"""What a run tells people: an error is the last of it."""

from __future__ import annotations

import pytest

from malice_core.reporting import TextReporter


def test_after_an_error_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A thread that watches signals ends a run while others still warn."""
    reporter = TextReporter()
    reporter.warning("few dates")
    reporter.error(3, "cancelled")
    reporter.warning("late")
    reporter.error(1, "later")
    assert capsys.readouterr().err == "warning: few dates\nerror: cancelled\n"
