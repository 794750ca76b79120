"""Runs with workers of dask: schedulers and workers in processes of their own, files on a server, plans sent."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import helpers_scratch
import numpy as np
import psutil

from malice_core.blocks import BlockEncoder
from malice_core.plan import Plan
from malice_core.scratch import Scratch


def until(met: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Waits for something."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The local worker processes of a run."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [one for one in children if "spawn_main" in " ".join(one.cmdline())]


def start(*arguments: object) -> subprocess.Popen[str]:
    """The command line, with its children in a group of processes."""
    return subprocess.Popen(
        [sys.executable, "-m", "malice_core.embed", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(output: Path) -> set[Path]:
    return set(helpers_scratch.finished(output))


def until_blocks(process: subprocess.Popen[str], output: Path, count: int) -> None:
    """Waits until ``count`` blocks are finished."""

    def met() -> bool:
        assert process.poll() is None, process.communicate()
        return len(finished(output)) >= count

    until(met, f"{count} blocks")


class Cluster:
    """A scheduler; :meth:`add` gives it workers."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self._environment = os.environ | environment
        self._processes: list[subprocess.Popen[bytes]] = []
        self._start("scheduler", "--scheduler-file", self.file, "--host", "127.0.0.1", "--port", 0)
        until(self.file.exists, "scheduler file")

    def _start(self, kind: str, *arguments: object, **environment: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *map(str, arguments), "--no-dashboard"]
        with (self.folder / f"{kind}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, env=self._environment | environment, cwd=self.folder)
            )

    def add(self, *arguments: object, **environment: str) -> None:
        """One more worker, in a folder that is not the run's."""
        given = ("--scheduler-file", self.file, "--nthreads", 1, "--local-directory", self.folder / "dask")
        self._start("worker", *given, *arguments, **environment)

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def cluster(folder: Path, **environment: str) -> Iterator[Cluster]:
    """A scheduler that ends with the block."""
    one = Cluster(folder, **environment)
    try:
        yield one
    finally:
        one.close()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of the files in ``folder``, which can send parts of them."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            path, part = (
                Path(self.translate_path(self.path)),
                re.match(r"bytes=(\d+)-(\d+)", self.headers["Range"] or ""),
            )
            if part is None or not path.is_file():
                super().do_GET()
                return
            content = path.read_bytes()
            begin, end = int(part[1]), min(int(part[2]) + 1, len(content))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
            self.send_header("Content-Length", f"{end - begin}")
            self.end_headers()
            self.wfile.write(content[begin:end])

        def log_message(self, *arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def require_same_when_sent(plan: Plan, folder: Path) -> None:
    """A copy of ``plan``, as another process gets it, encodes the first block to the same bits."""
    found = []
    for number, one in enumerate((plan, pickle.loads(pickle.dumps(plan)))):  # noqa: S301  ours
        with Scratch(folder / f"{number}.tif", one.fingerprint, one.grid.core_shape, resume=False) as scratch:
            encoder, block = BlockEncoder(one, scratch), next(iter(one.grid.blocks()))
            try:
                encoder.open()
                saved = encoder.encode(block, encoder.images([block]), lambda: None, lambda _: None)
                saved.result()
            finally:
                encoder.close()
            found.append({key: np.array(scratch.load(block.index, key)) for key in one.layout.kinds})
        one.close()
    assert found[0].keys() == found[1].keys()
    for key, values in found[0].items():
        np.testing.assert_array_equal(values, found[1][key])
