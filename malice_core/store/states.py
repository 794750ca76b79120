"""The encoders' tensors in the state dict of a whole network: which are there, which are missing, which are foreign.

A state dict may be that of a Lightning module (``model.encoder.…``), of a whole network (``encoder.…``) or of the
encoders alone. Names: those of the published checkpoints, see ``weights.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from malice_core import weights
from malice_core.errors import ModelError
from malice_core.store.statistics import AUX, MALICE, Statistics

State = Mapping[str, npt.NDArray[Any]]

_PREFIXES = ("model.encoder.", "encoder.", "")
#: Beside the encoders in a published state, and no part of them: the frozen projector, and constants.
_BESIDE = re.compile(r"projector_emb\.|.*\bpe_encoding\.|.*\.num_batches_tracked$")
#: What MALICE Aux has and MALICE has not.
_AUX = re.compile(r"\.encoder_(meteo|dem)\.")
#: Names that an error lists before it says how many more there are.
_LISTED = 6


@dataclass(frozen=True)
class Encoders:
    """The encoders of a state.

    Attributes:
        state: tensors by name below the encoder (``encoder_s2.ubarn.…``, ``common_temp_proj.…``), all of them used.
        unused: the other names of the state, as they are there.
        sensors: ``s2``, ``s1`` as far as they are there, in this order.
        auxiliary: whether they are of MALICE Aux.
        statistics: of these sensors: those given, else the published.
    """

    state: dict[str, npt.NDArray[Any]]
    unused: tuple[str, ...]
    sensors: tuple[str, ...]
    auxiliary: bool
    statistics: Mapping[str, Statistics]

    def weights(self, sensor: str, source: str) -> dict[str, npt.NDArray[Any]]:
        """Canonical weights of one encoder, batch norms folded."""
        part = {n: a for n, a in self.state.items() if n.startswith((f"encoder_{sensor}.", "common_temp_proj."))}
        return weights.from_state(part, sensor, source)


def encoders(
    state: State, statistics: Mapping[str, Statistics] | None, source: str, say: Callable[[str], None] = lambda _: None
) -> Encoders:
    """Finds the encoders in a state, and complains about all that does not fit at once.

    Args:
        state: tensors by name.
        statistics: of every sensor the state may have: its channels are the encoder's. None: the published.
        source: file name for messages.
        say: gets a line with every name that is missing or not used, however many they are.

    Raises:
        ModelError: if there is no encoder, or tensors are missing, of another shape, or unknown: this is then another
            architecture (another width, other channels, more queries or layers).
    """
    # Compiled modules have this in their names.
    plain = {name.replace("_orig_mod.", ""): name for name in state}
    auxiliary = any(map(_AUX.search, plain))
    statistics = statistics or (AUX if auxiliary else MALICE)
    begins = tuple(f"encoder_{sensor}." for sensor in statistics)
    prefix = next((p for p in _PREFIXES if any(n.startswith(tuple(p + b for b in begins)) for n in plain)), None)
    if prefix is None:
        raise ModelError(
            f"{source}: no tensor encoder_s2.… or encoder_s1.…: this is no state of a MALICE encoder "
            f"({_names(sorted(plain))})"
        )
    inside = {name.removeprefix(prefix): name for name in plain if name.startswith(prefix)}
    sensors = tuple(s for s, begin in zip(statistics, begins, strict=True) if any(n.startswith(begin) for n in inside))
    # Weights that were folded before have no batch norms at all; a state that lacks some of them is damaged.
    norms = any(name.endswith(".running_var") for name in inside)
    wanted = expected({sensor: len(statistics[sensor].channels) for sensor in sensors}, norms, auxiliary)
    if auxiliary:
        _share_terrain(inside, sensors, {name: state[plain[whole]] for name, whole in inside.items()}, source)
    missing = [name for name in wanted if name not in inside]
    misfits = {n: state[plain[inside[n]]].shape for n in wanted if n in inside}
    misfits = {name: shape for name, shape in misfits.items() if shape != wanted[name]}
    unused = [name for name in inside if name not in wanted]
    foreign = [name for name in unused if not _BESIDE.match(name)]
    # The counters of batch norms are as many as batch norms, and tell nobody anything.
    idle = [n for n in plain if n.removeprefix(prefix) not in wanted and not n.endswith(".num_batches_tracked")]
    for title, names in (("missing", missing), ("not used", idle)):
        if names:
            say(f"{title}: {', '.join(names)}")
    complaints = []
    if misfits:
        shapes = [f"{name} is {shape}, must be {wanted[name]}" for name, shape in misfits.items()]
        complaints.append(f"{len(misfits)} tensors have another shape: {_names(shapes, 3)}")
    if missing:
        complaints.append(f"{len(missing)} tensors are missing: {_names(missing)}")
    if foreign:
        complaints.append(f"{len(foreign)} tensors are of no MALICE encoder: {_names(foreign)}")
    if complaints:
        raise ModelError(f"{source}: not the architecture of MALICE: {'; '.join(complaints)}")
    return Encoders(
        {name: state[plain[inside[name]]] for name in wanted},
        tuple(sorted(set(state) - {plain[inside[name]] for name in wanted})),
        sensors,
        auxiliary,
        {sensor: statistics[sensor] for sensor in sensors},
    )


def _share_terrain(inside: dict[str, str], sensors: Iterable[str], state: State, source: str) -> None:
    """The terrain's U-Net is one module: a name that only one sensor has, the others get in ``inside``.

    Raises:
        ModelError: if sensors have different ones.
    """
    for name in list(inside):
        begin, _, rest = name.partition(f".{weights.TERRAIN}.")
        if not rest:
            continue
        for sensor in sensors:
            other = f"encoder_{sensor}.{weights.TERRAIN}.{rest}"
            if other in state and other != name and not np.array_equal(state[other], state[name]):
                raise ModelError(f"{source}: {other} differs from that of {begin}: sensors share one terrain U-Net")
            inside.setdefault(other, inside[name])


def expected(channels: Mapping[str, int], norms: bool = True, auxiliary: bool = False) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of the encoders by their names in a state, without the counters of batch norms.

    Args:
        channels: of the images of each sensor.
        norms: with batch norms.
        auxiliary: of MALICE Aux.
    """
    names: dict[str, tuple[int, ...]] = {}
    for sensor, count in channels.items():
        for name, shape in weights.shapes(count, auxiliary).items():
            if name.startswith(f"{weights.PROJECTOR}."):
                part = name.removeprefix(f"{weights.PROJECTOR}.")
                names[f"common_temp_proj.{part if part == 'Q' else f'ca_{sensor}.{part}'}"] = shape
            else:
                names[f"encoder_{sensor}.{name}"] = shape
        for name, shape in weights.unets(count, auxiliary).items() if norms else ():
            for part in weights.BATCH_NORM:
                size = (weights.bias_size(name, shape),)
                names[f"encoder_{sensor}.{weights.batch_norm_of(name)}.{part}"] = size
    return names


def _names(names: Iterable[str], limit: int = _LISTED) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(f"{name:.140}" for name in listed[:limit]) + more
