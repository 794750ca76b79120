"""Which patch comes when: an order that is known from seed and epoch alone, and can be entered anywhere.

A run that was killed in the middle of an epoch goes on with the very next batch, whatever the number of workers,
because nothing depends on random numbers drawn before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from malice_core.errors import MaliceError
from malice_core.training.batch import Batch

#: What a dataset is asked for: epoch and index.
Key = tuple[int, int]


class Order(DistributedSampler[Key]):
    """Yields (epoch, index) of this process's samples.

    A ``DistributedSampler``, so that Lightning leaves it alone: process r of w takes every w-th sample from the r-th
    on, so that the w batches of one step are the samples of one batch w times as large. The last step is filled up
    from the order's beginning.

    Args:
        dataset: with a length.
        seed: of the order.
        shuffle: another order each epoch; False: by index, and always epoch 0, so that the samples never change.
        replicas, rank: number of processes and which one this is; None: as torch.distributed says, else alone.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        seed: int = 0,
        shuffle: bool = True,
        replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        alone = not (dist.is_available() and dist.is_initialized())
        super().__init__(
            dataset,
            num_replicas=1 if replicas is None and alone else replicas,
            rank=0 if rank is None and alone else rank,
            shuffle=shuffle,
            seed=seed,
        )
        #: Samples of this process that are skipped at the beginning of the next epoch to be iterated.
        self.skip = 0

    def __iter__(self) -> Iterator[Key]:
        count = len(self.dataset)  # type: ignore[arg-type]
        epoch = self.epoch if self.shuffle else 0
        order = np.arange(count)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(count)
        order = np.resize(order, self.total_size)
        skip, self.skip = self.skip, 0
        return iter([(epoch, int(index)) for index in order[self.rank :: self.num_replicas][skip:]])


class Loader(DataLoader[Batch]):
    """A DataLoader that a checkpoint can keep: Lightning saves and restores its state with the loops.

    The batches are counted as they are handed out, not as workers prepare them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._handed = 0
        self._resume: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator begins at its first batch: by then Lightning has told the sampler the epoch, which it does after
        # it asked for the iterator.
        return self._batches()

    def _batches(self) -> Iterator[Batch]:
        resume, self._resume = self._resume, None
        self._handed = resume[1] if resume is not None and resume[0] == self._epoch else 0
        if isinstance(self.sampler, Order):
            self.sampler.skip = self._handed * (self.batch_size or 1)
        batches = super().__iter__()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except MaliceError as error:
                raise _without_traceback(error) from None
            self._handed += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Epoch, and the batches of it that were handed out."""
        if self._resume is not None:
            return dict(zip(("epoch", "batches"), self._resume, strict=True))
        return {"epoch": self._epoch, "batches": self._handed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration, if it is of the same epoch, goes on behind the batches that were handed out."""
        self._resume = int(state["epoch"]), int(state["batches"])
        if isinstance(self.sampler, Order):
            self.sampler.set_epoch(self._resume[0])

    @property
    def _epoch(self) -> int:
        # Lightning puts a sampler of its own into the loader for ``overfit_batches``.
        return self.sampler.epoch if isinstance(self.sampler, Order) else 0


def _without_traceback(error: MaliceError) -> MaliceError:
    """An error of a worker process arrives with its traceback as its text: the message alone."""
    text = str(error.args[0]) if error.args else ""
    return type(error)(text.rpartition(f"{type(error).__module__}.{type(error).__name__}: ")[2])
