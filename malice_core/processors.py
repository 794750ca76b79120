"""How many processors a run may use."""

from __future__ import annotations

import os
from pathlib import Path

#: Where Linux tells a container what it may have.
CGROUP = Path("/sys/fs/cgroup")


def count() -> int:
    """Processors this process may use: a cluster's scheduler gives it some of the machine's, a container a share."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(here, _quota(CGROUP) or here))


def _quota(folder: Path) -> int | None:
    """Processors' worth of time that Linux lets this container have, rounded up; None: as much as there is.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst, ``cpu.max``; cgroup-v1, ``cpu.cfs_quota_us``.
    """
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            told = " ".join((folder / name).read_text(encoding="ascii") for name in names).split()
            quota, period = int(told[0]), int(told[1])
        except (OSError, ValueError, IndexError):
            continue  # no such file, or "max"
        if quota > 0 and period > 0:
            return -(-quota // period)
    return None
