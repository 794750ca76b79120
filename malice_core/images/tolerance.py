"""What a report wants to know of images that a run leaves out, or refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from malice_core.bands import Sensor
from malice_core.errors import StackError
from malice_core.images.sources import Findings, Source
from malice_core.images.units import Samples, decide, source_key


@dataclass
class Tolerance:
    """Takes what would end a run.

    Attributes:
        faults: why the units of an image are refused, by image (:func:`units.source_key`).
        refused: the same, in the words of a run that ends there.
        left_out: images that are not taken, each with the reason.
        samples: pixels that were looked at.
    """

    faults: dict[tuple[object, ...], str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    left_out: list[tuple[Source, str]] = field(default_factory=list)
    samples: Samples = field(default_factory=Samples)

    def leave_out(self, before: Sequence[Source], after: Sequence[Source], why: str) -> None:
        """Remembers the images that are among those ``before``, but not ``after``."""
        kept = set(map(id, after))
        self.left_out += [(source, why) for source in before if id(source) not in kept]

    def decide(
        self,
        sources: Sequence[Source],
        sensor: Sensor,
        findings: Findings,
        s2_offset: str,
        error: StackError,
    ) -> list[Source]:
        """As :func:`units.decide`, one image at a time: of those it refuses the numbers are taken as they are stored.

        Args:
            error: why it refuses all of them together.
        """
        taken: list[Source] = []
        faults = []
        for source in sources:
            try:
                taken += decide([source], sensor, findings, s2_offset, self.samples)
            except StackError as fault:
                faults.append(str(fault))
                self.faults[source_key(source)] = faults[-1]
                taken.append(source)
        more = f" (and {len(faults) - 1} more images like it)" if len(faults) > 1 else ""
        # Where each is right by itself, they do not fit together.
        self.refused.append(f"{faults[0]}{more}" if faults else str(error))
        return taken
