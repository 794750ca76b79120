"""What a training step gets: four views of each place, two of either sensor.

The dates of a series are split at random in two halves, a and b; one date alone is both. The loader makes batches, the
objective eats them: this is the contract between the two.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

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
    """

    images: Tensor
    days: Tensor
    padded: Tensor
    observed: Tensor
    clear: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> View:
        """The same on another device."""
        return View(*(getattr(self, field.name).to(device, non_blocking=non_blocking) for field in fields(self)))

    def pin_memory(self) -> View:
        """The same in pinned memory, which copies to a GPU faster."""
        return View(*(getattr(self, field.name).pin_memory() for field in fields(self)))


@dataclass
class Batch:
    """Views of B places.

    Attributes:
        views: by key, see ``VIEWS``; T may differ between them.
        names: of the places, so that a batch that goes wrong can be named.
    """

    views: dict[str, View]
    names: tuple[str, ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same on another device."""
        return Batch({key: view.to(device, non_blocking) for key, view in self.views.items()}, self.names)

    def pin_memory(self) -> Batch:
        """The same in pinned memory."""
        return Batch({key: view.pin_memory() for key, view in self.views.items()}, self.names)
