"""Has the blocks of a plan computed by workers of ``dask.distributed``: processes of this machine, or of a cluster.

Everything is planned here, once. A task is a block (``worker.py``): a worker opens the images itself, and saves the
block in the scratch folder beside the output, which all workers must see. What is finished is never lost with a worker
or with this process, and the result is put together here as that of any run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import pkgutil
import queue
import signal
import time
import traceback
import uuid
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import malice_core
from malice_core import heap, processors
from malice_core.errors import ClusterError, DeviceError, InputError, MaliceError
from malice_core.images.paths import absolute
from malice_core.job import Job
from malice_core.scratch import Scratch, write_whole

if TYPE_CHECKING:
    from malice_core.assembling import Assembler
    from malice_core.grid import Block
    from malice_core.pipeline import Progress
    from malice_core.plan import Plan
    from malice_core.reporting import Reporter

#: Seconds a scheduler may take to answer, and workers to come, at the beginning or when all are gone.
CONNECTING, WAITING = 15.0, 120.0
#: Blocks in the hands of a worker: one is computed while the next one's images are read.
AHEAD = 2
#: Threads a local process is given where their number was left open: beyond, two runs of a graph at once gain little.
THREADS = 4


def processes(dask: str) -> int | None:
    """How many processes of this machine ``--dask`` asks for; None: it is a scheduler's address or file."""
    kind, _, number = dask.partition(":")
    if kind != "local" or not (number.isdigit() or dask == "local"):
        return None
    return int(number or 1)


def prepared(job: Job, connecting: bool) -> Job:
    """The job as it can be planned for other processes: names of files as all of them see them.

    Args:
        connecting: workers will be needed.

    Raises:
        ClusterError: if distributed is not installed, or there is no such scheduler.
        InputError: if --threads is of no use.
    """
    dask = job.dask
    assert dask is not None
    count = processes(dask)
    for package in ("distributed", *(() if count is None else ("cryptography",))):
        if connecting and importlib.util.find_spec(package) is None:
            raise ClusterError(f"--dask {dask} needs the package {package}: pip install 'malice-core[dask]'")
    if count is not None:
        count = max(1, _cores(job) // THREADS) if dask == "local" else count
        job = replace(job, dask=f"local:{count}")
    else:
        if job.threads is not None:
            raise InputError(
                f"--threads {job.threads}: with --dask {dask} the workers have theirs (dask worker --nthreads): drop it"
            )
        if connecting:
            _address(dask)
    many: dict[str, Any] = {
        name: tuple(map(absolute, getattr(job, name)))
        for name in ("s2", "s1", "scl", "weather", "s2_angles", "s1_angles")
    }
    return replace(
        job,
        **many,
        dem=absolute(job.dem) if job.dem is not None else None,
        output=job.output.absolute(),
        counts=job.counts.absolute() if job.counts is not None else None,
    )


def threads(job: Job) -> int | None:
    """Threads that blocks of a prepared job are computed with, in one process; None: all."""
    if job.dask is None:
        return job.threads
    count = processes(job.dask)
    # Workers of others have theirs. What is planned for are two runs of a graph at once.
    return 2 if count is None else max(1, _cores(job) // count)


def _cores(job: Job) -> int:
    return job.threads or processors.count()


def encode(
    job: Plan, todo: list[Block], scratch: Scratch, progress: Progress, assembler: Assembler, reporter: Reporter
) -> None:
    """Has blocks computed and saved; returns when all are.

    Raises:
        ClusterError: if there is no scheduler, or no worker.
        MaliceError: of a worker, or if workers died again and again; Cancelled.
    """
    dask = job.job.dask
    assert dask is not None
    local = processes(dask)
    if local is not None and local > 1 and job.backend.device == "cuda":
        raise DeviceError(f"--dask {dask}: its processes would share one GPU; give --dask local:1, or --device cpu")
    for sensor in job.stacks:
        for role in job.card.roles():
            write_whole(scratch.folder / job.card.graph_path(sensor, role).name, job.card.graph_bytes(sensor, role))
    _quieten()
    with _connected(dask, job.backend.threads) as client:
        from distributed.protocol import serialize_bytes

        from malice_core.worker import Order

        order = Order(
            version=malice_core.__version__,
            fingerprint=job.fingerprint,
            folder=f"{scratch.folder.absolute()}",
            plan=serialize_bytes(job),
            threads=None if local is None else job.backend.threads,
            named=local is None,
        )
        _Blocks(client, order, dask).compute(todo, progress, assembler, reporter)


class _Blocks:
    """Gives blocks to workers as they become free, and waits for them."""

    def __init__(self, client: Any, order: Any, dask: str) -> None:
        self._client, self._order, self._dask = client, order, dask
        self._run = uuid.uuid4().hex
        self._done: queue.Queue[Any] = queue.Queue()
        #: Those that have the package.
        self._workers: set[str] = set()
        self._asked = -1.0
        self._alone = time.monotonic()
        self._warned = False

    def compute(self, todo: list[Block], progress: Progress, assembler: Assembler, reporter: Reporter) -> None:
        """Returns when all are saved.

        Raises:
            MaliceError: the first one.
        """
        waiting, running = deque(todo), dict[str, Any]()
        try:
            while waiting or running:
                assembler.check()
                self._count_workers(reporter)
                # dask decides where a block is computed; few at once, so that each goes where there is time for it.
                while waiting and len(running) < AHEAD * len(self._workers):
                    future = self._submit(waiting.popleft().index)
                    running[future.key] = future
                with contextlib.suppress(queue.Empty):
                    future = self._done.get(timeout=0.1)
                    del running[future.key]
                    self._require_good(future)
                    assembler.computed(_index(future))
                    progress.encoded(progress.units)
        finally:
            for future in running.values():
                future.cancel()

    def _submit(self, index: int) -> Any:
        from malice_core import worker

        future = self._client.submit(
            worker.compute, self._order, index, key=f"malice_block-{self._run}-{index}", pure=False
        )
        future.add_done_callback(self._done.put)
        return future

    def _require_good(self, future: Any) -> None:
        """Raises what is wrong with a block that is done."""
        from distributed import KilledWorker

        if future.status == "finished":
            return
        if future.status != "error":
            raise MaliceError(f"--dask {self._dask}: the scheduler is gone; start it again, then run with --resume")
        error = future.exception()
        if isinstance(error, KilledWorker):
            raise MaliceError(
                f"{error.allowed_failures + 1} workers died one after the other while they computed block "
                f"{_index(future)}: out of memory? give a smaller --memory or --block, or start fewer on a machine"
            ) from error
        if _lacking(error, future.traceback()):
            raise ClusterError(_lacks("a worker", error)) from error
        raise error

    def _count_workers(self, reporter: Reporter) -> None:
        """Asks once a second.

        Raises:
            ClusterError: if there has been none for too long, or one lacks the package.
        """
        now = time.monotonic()
        if now - self._asked < 1.0:
            return
        self._asked = now
        try:
            there = set(self._client.nthreads())
            self._workers &= there
            if new := there - self._workers:
                self._workers |= self._equipped(new)
        except OSError as error:
            raise MaliceError(
                f"--dask {self._dask}: the scheduler is gone; start it again, then run with --resume"
            ) from error
        if self._workers:
            self._alone, self._warned = now, False
        elif now - self._alone > WAITING:
            raise ClusterError(
                f"--dask {self._dask}: no worker for {WAITING:.0f} seconds; start some with dask worker, then run with "
                "--resume"
            )
        elif now - self._alone > WAITING / 10 and not self._warned:
            self._warned = True
            reporter.warning(f"--dask {self._dask}: there is no worker; waiting for one, {WAITING:.0f} seconds at most")

    def _equipped(self, workers: set[str]) -> set[str]:
        """Those of some workers that can load ``malice_core``. One that cannot would drop its connection with the first
        block, and be missed without a word.

        Raises:
            ClusterError: if one lacks it, or the scheduler, which loads what it hands on.
        """
        asked = (pkgutil.resolve_name, f"{malice_core.__name__}:__version__")
        found = dict(self._client.run(*asked, workers=list(workers), on_error="return"))
        try:
            self._client.run_on_scheduler(*asked)
        except ImportError as error:
            found["the scheduler"] = error
        for who, answer in found.items():
            if isinstance(answer, ImportError):
                raise ClusterError(_lacks(who if who not in workers else f"worker {who}", answer)) from answer
        return {who for who, answer in found.items() if isinstance(answer, str)}


def _lacks(who: str, error: object) -> str:
    return (
        f"{who} lacks malice-core {malice_core.__version__} ({error}): install it in the environment of scheduler and "
        "workers"
    )


def _index(future: Any) -> int:
    """Of the block that a future is of."""
    return int(future.key.rpartition("-")[2])


@contextlib.contextmanager
def _connected(dask: str, threads: int) -> Iterator[Any]:
    """A client; with local processes these live as long as it.

    Raises:
        ClusterError: if there is no scheduler, or a process does not start.
    """
    from dask import config
    from distributed import Client, LocalCluster

    count = processes(dask)
    with contextlib.ExitStack() as opened:
        # Other versions of what is installed are warned of: what matters to us is checked by the workers.
        opened.enter_context(warnings.catch_warnings(action="ignore"))
        try:
            if count is None:
                client = Client(_answering(_address(dask)), timeout=CONNECTING, set_as_default=False)
            else:
                # Nobody else on this machine may give them work: connections need keys that are made for this run.
                with _no_interrupts(), config.set({f"distributed.nanny.pre-spawn-environ.{heap.VARIABLES[0]}": 1}):
                    cluster = LocalCluster(
                        n_workers=count,
                        threads_per_worker=max(AHEAD, threads),
                        processes=True,
                        host="127.0.0.1",
                        security=True,
                        dashboard_address=None,
                        memory_limit=0,
                        silence_logs=_level(),
                    )
                opened.callback(_close, cluster)
                client = Client(cluster, timeout=CONNECTING, set_as_default=False)
        except (OSError, RuntimeError, ValueError, TypeError, ImportError) as error:
            what = "processes do not start" if count is not None else "no scheduler answers there; is it running?"
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ClusterError(f"--dask {dask}: {what} ({reason:.200})") from error
        opened.callback(client.close, timeout=2)
        yield client


def _lacking(error: BaseException, trace: TracebackType | None) -> bool:
    """True if a worker could not begin a task as it has no ``malice_core``, or another one; not if a block failed."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == malice_core.__name__:
        return True
    begun = any(
        frame.f_code.co_name == "compute" and frame.f_globals.get("__name__") == "malice_core.worker"
        for frame, _ in traceback.walk_tb(trace)
    )
    return isinstance(error, ImportError | AttributeError) and not begun


def _close(cluster: Any) -> None:
    """Ends local processes at once, not at the end of what they are at: what is finished is saved."""
    for nanny in cluster.workers.values():
        nanny.close_gracefully()  # no process is started in the place of one that ends
        if (process := nanny.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    cluster.close(timeout=5)


def _address(dask: str) -> str:
    """A scheduler's address, out of its file where that is what was given.

    Raises:
        ClusterError: if it is neither.
    """
    if "://" in dask:
        return dask
    try:
        return str(json.loads(Path(dask).read_text(encoding="utf-8"))["address"])
    except OSError as error:
        raise ClusterError(
            f"--dask {dask} is neither local[:N], nor an address such as tcp://HOST:8786, nor the file of a running "
            f"dask scheduler --scheduler-file ({error.strerror})"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"--dask {dask}: is no file of dask scheduler --scheduler-file") from error


def _answering(address: str) -> str:
    """``address``, when a connection to it was made. A client that cannot connect may never end, and says so at exit.

    Raises:
        OSError, RuntimeError, ValueError, TypeError, ImportError: whatever dask's kinds of connection raise.
    """
    import asyncio

    from distributed.comm import connect
    from distributed.security import Security

    async def knock() -> None:
        connection = await connect(address, timeout=CONNECTING, **Security().get_connection_args("client"))
        await connection.close()

    asyncio.run(knock())
    return address


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes started by threads that are started inside get no Ctrl-C: this one stops them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    # It would be started with the first process, and unblock signals then. When this process leaves at once, it frees
    # what is left, and would say so.
    told = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker:UserWarning"
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if told is not None:
            os.environ["PYTHONWARNINGS"] = told
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _level() -> int:
    return logging.WARNING if os.environ.get("MALICE_DEBUG") else logging.CRITICAL + 1


def _quieten() -> None:
    """A failure is one line on stderr: what the libraries say of it besides is not for users."""
    import distributed  # noqa: F401  sets its loggers up

    for name in ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(_level())
