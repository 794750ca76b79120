"""What a training step gets: four views of each place, two of either sensor.

The dates of a series are split at random in two halves, a and b; one date alone is both. The loader makes batches, the
objective eats them: this is the contract between the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

#: Keys of a batch's views: sensor and half.
VIEWS = ("s2a", "s2b", "s1a", "s1b")


@dataclass
class View:
    """Half of the dates of one sensor, for B places; padded to the longest of the batch.

    Attributes:
        images: (B, T, bands, H, W) float32, physical values in the order and unit of ``bands.SENSORS``: reflectance
            x 10000 for Sentinel-2, linear gamma0 VV, VH for Sentinel-1. 0 where nothing was observed.
        days: (B, T) int64, days since ``bands.DATE_ORIGIN``; 0 where padded.
        padded: (B, T) bool, True where there is no date.
        observed: (B, T, H, W) bool, False where the source had no data, and where padded.
        clear: (B, T, H, W) bool, observed and not cloud or shadow: where the losses look.
        angles: (B, T, A) float32, cosines and sines of MALICE Aux, not normalised; None for MALICE.
        weather: (B, T, 48) float32 of MALICE Aux, in the units of AgERA5 as openEO stores it, not normalised, variable
            by variable, six days each; None for MALICE.
    """

    images: Tensor
    days: Tensor
    padded: Tensor
    observed: Tensor
    clear: Tensor
    angles: Tensor | None = None
    weather: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> View:
        """The same on another device."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> View:
        """The same in pinned memory, which copies to a GPU faster."""
        return self.each(Tensor.pin_memory)

    def each(self, change: Callable[[Tensor], Tensor]) -> View:
        """The same with all its tensors changed."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(part) for name, part in parts.items() if part is not None})


@dataclass
class Batch:
    """Views of B places.

    Attributes:
        views: by key, see ``VIEWS``; T may differ between them.
        names: of the places, so that a batch that goes wrong can be named.
        terrain: (B, 4, H, W) float32 of MALICE Aux, as ``Terrain.read`` gives it, not normalised; None for MALICE.
    """

    views: dict[str, View]
    names: tuple[str, ...]
    terrain: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same on another device."""
        terrain = None if self.terrain is None else self.terrain.to(device, non_blocking=non_blocking)
        return Batch({key: view.to(device, non_blocking) for key, view in self.views.items()}, self.names, terrain)

    def pin_memory(self) -> Batch:
        """The same in pinned memory."""
        terrain = None if self.terrain is None else self.terrain.pin_memory()
        return Batch({key: view.pin_memory() for key, view in self.views.items()}, self.names, terrain)
