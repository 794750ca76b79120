"""What weather is worth to MALICE Aux: its losses in validation with the weather of other dates.

Each date gets the weather of another one of its sensor, drawn from all dates of the batch, so that the numbers are as
they were and only tell nothing about the images any more. A network that uses weather does worse then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from malice_core.training.batch import Batch, View
from malice_core.training.module import PretrainingModule

#: Names below ``val/`` that are logged, beside those with true weather, ``total_loss`` and ``rec``.
SHUFFLED = ("total_loss_shuffled_weather", "rec_shuffled_weather")


def shuffled(batch: Batch, seed: int) -> Batch:
    """A batch with the weather of each sensor's dates dealt out anew among them, both halves together.

    Args:
        batch: of MALICE Aux; stays as it is.
        seed: of the deal.
    """
    random = torch.Generator().manual_seed(seed)
    views = dict(batch.views)
    for sensor in ("s2", "s1"):
        halves = [batch.views[sensor + letter] for letter in "ab"]
        cut = len(_of_dates(halves[0]))
        known = torch.cat([_of_dates(half) for half in halves])
        known = known[torch.randperm(len(known), generator=random).to(known.device)]
        for letter, half, part in zip("ab", halves, (known[:cut], known[cut:]), strict=True):
            weather = _weather(half).clone()
            weather[~half.padded] = part
            views[sensor + letter] = replace(half, weather=weather)
    return replace(batch, views=views)


def _weather(view: View) -> torch.Tensor:
    if view.weather is None:
        raise ValueError("the batch has no weather to shuffle: it is not of MALICE Aux")
    return view.weather


def _of_dates(view: View) -> torch.Tensor:
    """(N, 48), without padding."""
    return _weather(view)[~view.padded]


class ShuffledWeather(Callback):
    """Logs :data:`SHUFFLED` in validation. The deal of a batch is the same each epoch; training draws the same random
    numbers with and without it."""

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """After each batch of validation."""
        assert isinstance(module, PretrainingModule)
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            result, _ = module.objective(module.model, shuffled(batch, batch_idx))
        values = dict(zip(SHUFFLED, (result.total, result.rec), strict=True))
        module.log_dict(
            {f"val/{name}": value for name, value in values.items()},
            on_epoch=True,
            batch_size=len(batch.names),
            sync_dist=True,
        )
