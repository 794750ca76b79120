"""One heap for all threads, as the C library tells it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest

from malice_core import heap, workers

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc only")

CODE = """
import ctypes, threading
from malice_core import embed
if {engine}:
    assert embed.main(["--contract"]) == 0
library, together = ctypes.CDLL(None), threading.Barrier(4)
def take():
    together.wait()
    library.malloc(1000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(4)]
for one in threads: one.start()
for one in threads: one.join()
library.malloc_stats()
"""


def heaps(engine: bool, **environment: str) -> int:
    """How many a process has in the end whose four threads take memory, as malloc_stats(3) counts them."""
    command = [sys.executable, "-c", CODE.format(engine=engine)]
    known = {name: value for name, value in os.environ.items() if name not in heap.VARIABLES}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=known | environment)
    return len(re.findall(r"^Arena \d+:", done.stderr, re.MULTILINE))


def test_the_engine_has_one() -> None:
    assert heaps(engine=True) < heaps(engine=False)


def test_what_the_environment_says_stays() -> None:
    assert heaps(engine=True, MALLOC_ARENA_MAX="3") == heaps(engine=False, MALLOC_ARENA_MAX="3") == 3


def test_a_system_without_the_function_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        pass

    for name in heap.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ctypes.CDLL", lambda _: Other())
    heap.share()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ctypes", None)
        heap.share()
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr("ctypes.CDLL", None)
    heap.share()


def test_local_processes_of_a_cluster_have_one() -> None:
    with workers._connected("local:1", 1) as client:
        (told,) = client.run(os.environ.get, heap.VARIABLES[0]).values()
    assert told == "1"
