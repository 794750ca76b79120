"""What a process of a cluster does: computes blocks of a plan, one at a time, and keeps what it compiled for the next.

The task is :func:`compute`; ``workers.py`` submits it. While a block is computed, the next one's images are read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import malice_core
from malice_core import memory, runtime, scratch
from malice_core.blocks import BlockEncoder
from malice_core.cancelling import MESSAGE
from malice_core.errors import Cancelled, DeviceError, InputError, MaliceError, OutputError
from malice_core.runtime import Backend
from malice_core.scratch import Blocks

if TYPE_CHECKING:
    from malice_core.plan import Plan

#: Seconds without a block after which a process gives its buffers and graphs back: the run may be over.
IDLE = 60.0
#: Seconds that a folder on a file server may take to appear on another machine.
PATIENCE = 5.0


@dataclass(frozen=True)
class Order:
    """What a worker must know of a run.

    Attributes:
        version: of ``malice_core``.
        fingerprint: of the job.
        folder: the scratch folder, with the model's graphs in it.
        plan: the plan as ``distributed.protocol.serialize_bytes`` wrote it.
        threads: processor threads of a process; None: as many as its worker has.
        named: errors say which worker they are from.
    """

    version: str
    fingerprint: str
    folder: str
    plan: bytes
    threads: int | None
    named: bool


def compute(order: Order, index: int) -> None:
    """Computes and saves one block.

    Raises:
        MaliceError: in one line.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def check() -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise Cancelled(MESSAGE)

    try:
        with _desk(order, worker, check) as desk:
            desk.compute(index, check)
        return
    except MaliceError as error:
        told = type(error)(f"worker {worker.address}: {error}" if order.named else f"{error}")
    # Without what led to it: errors of libraries cannot be sent, and would take this one's kind along.
    raise told


class Desk:
    """The encoder of a process, for one run.

    Attributes:
        order: the run.
        users: blocks that are being read, computed or saved.
        failed: one of them was not finished; what it left in here is no beginning for others.
    """

    def __init__(self, order: Order, worker: Any) -> None:
        self.order, self.users, self.failed = order, 0, False
        plan = _plan(order, worker)
        self._blocks = {block.index: block for block in plan.grid.blocks()}
        self._reading, self._computing = threading.Lock(), threading.Lock()
        self._plan = plan
        self._finished = Blocks(Path(order.folder), order.fingerprint, plan.grid.core_shape)
        self._encoder = BlockEncoder(plan, self._finished)
        try:
            self._encoder.open()
        except BaseException:
            self.close()
            raise

    def compute(self, index: int, check: Callable[[], None]) -> None:
        """Reads, computes and saves a block; one is read at a time, and one is computed.

        Raises:
            MaliceError: whatever went wrong; Cancelled if ``check`` did.
        """
        if self._finished.finished(index, self._plan.layout.kinds):
            return  # by a worker that died before it could say so
        block = self._blocks[index]
        with ExitStack() as reading, ExitStack() as computing:
            _take(self._reading, reading, check)
            images = self._encoder.images([block], whole=reading.close)
            _take(self._computing, computing, check)
            saved = self._encoder.encode(block, images, check, lambda _: None)
            computing.close()
            saved.result()

    def close(self) -> None:
        """Ends threads and closes rasters."""
        self._encoder.close()
        self._plan.close()


def _take(lock: threading.Lock, held: ExitStack, check: Callable[[], None]) -> None:
    """Locks ``lock`` until ``held`` is closed; a wait can be cancelled."""
    while not lock.acquire(timeout=0.2):
        check()
    held.callback(lock.release)


#: The encoder of this process, what guards it, and what clears it away when it is not used any more.
_current: Desk | None = None
_guard = threading.Condition()
_timer: threading.Timer | None = None


@contextmanager
def _desk(order: Order, worker: Any, check: Callable[[], None]) -> Iterator[Desk]:
    """The desk of a run; one of another run, or where a block failed, is cleared away when its blocks are done."""
    global _current, _timer
    with _guard:
        while _current is not None and (_current.order != order or _current.failed):
            if _current.users:
                _guard.wait(0.2)
                check()
            else:
                _clear()
        if _current is None:
            _current = Desk(order, worker)
        desk = _current
        desk.users += 1
    try:
        yield desk
    except BaseException:
        desk.failed = True
        raise
    finally:
        with _guard:
            desk.users -= 1
            if desk.failed and not desk.users and _current is desk:
                _clear()
            _guard.notify_all()
            if _timer is not None:
                _timer.cancel()
            _timer = threading.Timer(IDLE, _clear_idle)
            _timer.daemon = True
            _timer.start()


def _clear() -> None:
    global _current
    if _current is not None:
        _current.close()
    _current = None


def _clear_idle() -> None:
    with _guard:
        if _current is not None and not _current.users:
            _clear()


def _plan(order: Order, worker: Any) -> Plan:
    """The plan, to be computed with what this process has.

    Raises:
        InputError: if another version or runtime is here, the scratch folder is not seen, or memory is too little.
    """
    from distributed.protocol import deserialize_bytes

    if order.version != malice_core.__version__:
        raise InputError(f"has malice-core {malice_core.__version__}, the run {order.version}: install the same one")
    folder = Path(order.folder)
    patience = time.monotonic() + PATIENCE
    while scratch.owner(folder) != order.fingerprint:
        if time.monotonic() > patience:
            raise OutputError(
                f"does not see {folder}, where finished blocks go: give an --output on a file system that is there "
                "under the same path for all workers"
            )
        time.sleep(0.1)
    plan: Plan = deserialize_bytes(order.plan)
    backend = _backend(plan.backend, order.threads or worker.state.nthreads)
    dates = {sensor: len(stack.observations) for sensor, stack in plan.stacks.items()}
    # More threads than the plan was made for embed more pixels at once.
    now, then = (memory.embedding(plan.card, one, plan.grid, dates) for one in (backend, plan.backend))
    limit, needed = _limit(worker), plan.budget.total + max(0, now - then)
    if limit is not None and needed > limit:
        raise InputError(
            f"may use {limit / 1e9:.2f} GB before it is paused, the plan needs {needed / 1e9:.2f} GB: start "
            "workers with a larger --memory-limit, or none (0), or give a smaller --memory"
        )
    plan.backend = backend
    # The client put the graphs there.
    plan.card = replace(plan.card, folder=folder)
    return plan


def _backend(planned: Backend, threads: int) -> Backend:
    """The same runtime, device and precision with this worker's threads.

    Raises:
        DeviceError: if they are not here, or in another version, whose numbers may differ.
    """
    found = runtime.choose(planned.runtime, planned.device, planned.precision, threads)
    # The plan knows whether the model's graphs are of that form.
    found = replace(found, kernel=found.kernel if planned.kernel else "")
    if found.name != planned.name:
        # Whether products may be of bfloat16 is the processor's.
        other = {found.kernel, planned.kernel} == {"float32", "bfloat16"}
        cure = "use processors of one kind, or --precision float32" if other else "install the same version"
        raise DeviceError(
            f"has {found.name}, the plan was made with {planned.name}: {cure}, so that all blocks are computed alike"
        )
    # More streams than planned would take more memory than planned.
    return replace(found, streams=min(found.streams, planned.streams))


def _limit(worker: Any) -> float | None:
    """Bytes that a worker may use before it takes no more tasks, or is killed; None: no limit."""
    manager = worker.memory_manager
    return manager.memory_limit * (manager.memory_pause_fraction or 0.95) if manager.memory_limit else None
