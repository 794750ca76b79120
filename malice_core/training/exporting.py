"""Makes a model of the store out of a trained state, and proves that its graphs compute what the torch encoder does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from malice_core import cards, runtime, weights
from malice_core.cards import Card
from malice_core.errors import ModelError
from malice_core.store import agreement, modelwriter, states
from malice_core.store.states import Encoders, State
from malice_core.store.statistics import MALICE, Statistics
from malice_core.training.malice import MaliceEncoder

#: Largest absolute difference of embedding values that float16 weights may make (values span about ±2.5); the
#: published encoders' is 0.004, a tenth of what computing in bfloat16 makes.
HALF_TOLERANCE = 0.02


def export(
    state: State,
    name: str,
    store: Path,
    *,
    title: str,
    licence: str,
    citation: str,
    provenance: Mapping[str, str],
    tags: Sequence[str] = (),
    statistics: Mapping[str, Statistics] | None = None,
    half: bool = False,
    overwrite: bool = False,
    source: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Card:
    """Writes the graphs and the card of ``store/name``.

    The model appears only if its graphs agree on random input with the torch encoder that has the same state, and
    the runtimes with each other, within ``agreement.rounding`` (with ``half``: :data:`HALF_TOLERANCE` for torch).

    Args:
        state: tensors by name: of a Lightning module, a network or its encoders (see ``store/states.py``).
        name, store, overwrite: as in ``importing.import_files``.
        title, licence, citation, provenance, tags: fields of the card.
        statistics: normalisation the encoders were trained with, by sensor; None: the published.
        half: store the weights as float16; what is computed stays float32, and the card says how much it matters.
        source: file name for messages.
        say: gets a line for each thing found and done.

    Raises:
        ModelError: if tensors are missing, unknown, of another shape or damaged, the graphs disagree, or the model
            exists and ``overwrite`` is false.
        OutputError: if the store cannot be written.
    """
    found = states.encoders(state, statistics, source or name, say)
    canonical = {sensor: found.weights(sensor, source or name) for sensor in found.sensors}
    with modelwriter.new_model(store, name, overwrite) as folder:
        card = modelwriter.write(
            folder,
            name,
            canonical,
            title=title,
            licence=licence,
            citation=citation,
            provenance=provenance,
            tags=tags,
            statistics=found.statistics,
            half=half,
        )
        agreement.between_runtimes(card)
        notes = {}
        if half:
            notes["weights"] = "float16 on disk, computed in float32"
        for sensor, worst in with_torch(card, found, HALF_TOLERANCE if half else agreement.TOLERANCE).items():
            say(f"{sensor}: the graphs agree with the torch encoder within {worst:.1e}")
            notes[f"{sensor}_difference"] = f"at most {worst:.1e} from the torch encoder on random input"
        cards.write(replace(card, provenance={**card.provenance, **notes}), folder)
    return cards.read(store / name)


def with_torch(card: Card, found: Encoders, tolerance: float) -> dict[str, float]:
    """Largest absolute difference between a model's graphs and the torch encoder with its state, by sensor.

    Raises:
        ModelError: if it exceeds ``tolerance`` and :func:`agreement.rounding`.
    """
    encoder = torch_encoder(found, {sensor: len(part.channels) for sensor, part in card.modalities.items()})
    backend = runtime.choose("onnxruntime", "cpu")
    result = {}
    for sensor, modality in card.modalities.items():
        given = agreement.sample(len(modality.channels))
        with torch.inference_mode():
            wanted = _embed(encoder, sensor, given, found.auxiliary)
        ours = agreement.embed(card, sensor, given, backend)
        worst = float((torch.from_numpy(ours) - wanted).abs().max())
        bound = max(tolerance, agreement.rounding(card, sensor, given, backend, ours))
        if not worst <= bound:
            hint = "; try without float16" if tolerance > agreement.TOLERANCE else ""
            raise ModelError(
                f"model {card.name}: the {sensor} graphs differ from the torch encoder by {worst:.2g} (at most "
                f"{bound:.2g} is rounding): it is not exported{hint}"
            )
        result[sensor] = worst
    return result


def _embed(encoder: MaliceEncoder, sensor: str, given: agreement.Sample, auxiliary: bool) -> torch.Tensor:
    """(10, 64, H, W) embedding of a sample by the torch encoder."""
    parts = (given.images, given.days, given.weather, given.terrain)
    images, days, weather, terrain = (torch.from_numpy(part)[None] for part in parts)
    around = encoder.surroundings(weather, terrain) if auxiliary else None
    return encoder(sensor, images, days, torch.from_numpy(given.padded)[None], surroundings=around)[0]  # type: ignore[no-any-return]


def torch_encoder(found: Encoders, channels: Mapping[str, int]) -> MaliceEncoder:
    """The torch encoder with a state, in evaluation mode on the processor.

    Args:
        found: its state; batch norms that were folded into it are set to change nothing.
        channels: of the images of each sensor.
    """
    # Called while training goes on, this must not move its random numbers.
    with torch.random.fork_rng(devices=[]):
        encoder = MaliceEncoder(channels, auxiliary=found.auxiliary)
    state = encoder.state_dict()
    for sensor, count in channels.items():
        for convolution in weights.unets(count, found.auxiliary):
            # 1 / sqrt(variance + epsilon) is 1 to the last bit.
            state[f"encoder_{sensor}.{weights.batch_norm_of(convolution)}.running_var"].fill_(1 - weights.EPSILON)
    state |= {name: torch.tensor(array).float() for name, array in found.state.items()}
    encoder.load_state_dict(state)
    return encoder.eval()


def statistics_of(hyper_parameters: Mapping[str, Any], source: str) -> Mapping[str, Statistics] | None:
    """The normalisation a checkpoint's encoders were trained with; None if it does not say: the published.

    Args:
        hyper_parameters: of the checkpoint; ours hold ``statistics``, by sensor, as plain lists.
        source: file name for messages.

    Raises:
        ModelError: if there are statistics, but not as this project writes them.
    """
    given = hyper_parameters.get("statistics")
    if given is None:
        return None
    result = {}
    for sensor in MALICE:
        if not isinstance(given, dict) or not given:
            raise ModelError(f"{source}: its hyper-parameter 'statistics' is no table by sensor")
        if sensor not in given:
            continue
        part = given[sensor] if isinstance(given[sensor], dict) else {}
        channels, transform = part.get("channels"), part.get("transform")
        rows = {key: part.get(key) for key in ("med", "qmin", "qmax")}
        if not (isinstance(transform, str) and _are(str, channels) and all(_are(float, row) for row in rows.values())):
            raise ModelError(f"{source}: its statistics of {sensor} are not channels, transform, med, qmin and qmax")
        numbers = {key: tuple(map(float, row or ())) for key, row in rows.items()}
        result[sensor] = Statistics(channels=tuple(channels or ()), transform=transform, **numbers)
    return result


def _are(kind: type, values: Any) -> bool:
    """A list of texts, or of numbers that fit into float32; whether it has the right length, the card's reader says."""
    if kind is str:
        return isinstance(values, list) and all(type(value) is str for value in values)
    return isinstance(values, list) and all(type(value) in (int, float) and abs(value) < 1e30 for value in values)
