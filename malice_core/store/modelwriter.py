"""Writes a model's folder: two graphs for each modality and the card, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from malice_core import cards, graphs, weights
from malice_core.bands import DATE_ORIGIN
from malice_core.cards import Card, Graph, Modality, Surroundings
from malice_core.errors import ModelError, OutputError
from malice_core.store.statistics import AUX, AUX_TERRAIN, AUX_WEATHER, MALICE, Statistics
from malice_core.weights import Weights

#: Seconds after which an unfinished folder of a model is nobody's: an import takes less than a minute.
STALE = 24 * 3600.0


def write(
    folder: Path,
    name: str,
    encoders: Mapping[str, Weights],
    *,
    title: str,
    licence: str,
    citation: str,
    provenance: Mapping[str, str],
    tags: Sequence[str] = (),
    statistics: Mapping[str, Statistics] | None = None,
    half: bool = False,
) -> Card:
    """Builds the graphs of every modality and writes them and ``model.json`` into ``folder``.

    Args:
        folder: an existing folder.
        name: of the model; the folder's final name.
        encoders: canonical weights (see ``weights.py``) by sensor key.
        title, licence, citation, provenance, tags: fields of the card.
        statistics: normalisation the encoders were trained with, by sensor key; None: the published.
        half: store the weights as float16.

    Returns:
        The card, as read back from ``folder``.

    Raises:
        ModelError: if weights are missing, unknown or damaged, do not have the sensor's channels, or are of MALICE Aux
            for one sensor only.
    """
    auxiliary = any(map(weights.is_auxiliary, encoders.values()))
    statistics = statistics or (AUX if auxiliary else MALICE)
    modalities, surroundings = {}, None
    for sensor, normalisation in statistics.items():
        if sensor not in encoders:
            continue
        folded = weights.canonical(encoders[sensor], f"{name} {sensor}")
        if weights.is_auxiliary(folded) != auxiliary:
            raise ModelError(
                f"{name} {sensor}: no weights of weather and terrain, but another sensor's encoder has them"
            )
        channels = folded[f"{weights.SPATIAL}.in_conv.conv.conv.0.weight"].shape[1]
        channels -= weights.WEATHER_WIDTH if auxiliary else 0
        if channels != len(normalisation.channels):
            raise ModelError(
                f"{name} {sensor}: the weights take {channels} channels, the sensor has {len(normalisation.channels)} "
                f"({', '.join(normalisation.channels)})"
            )
        weather = None
        if auxiliary:
            weather = _write_graph(folder, f"{sensor}_weather.onnx", graphs.weather_graph(folded, half))
            terrain = _write_graph(folder, "terrain.onnx", graphs.terrain_graph(folded, half))
            surroundings = Surroundings(AUX_WEATHER, AUX_TERRAIN, terrain)
        low, high = graphs.output_bounds(folded)
        modalities[sensor] = Modality(
            channels=normalisation.channels,
            transform=normalisation.transform,
            med=normalisation.med,
            qmin=normalisation.qmin,
            qmax=normalisation.qmax,
            spatial=_write_graph(folder, f"{sensor}_spatial.onnx", graphs.spatial_graph(folded, half)),
            temporal=_write_graph(folder, f"{sensor}_temporal.onnx", graphs.temporal_graph(folded, half)),
            low=tuple(map(float, low)),
            high=tuple(map(float, high)),
            weather=weather,
        )
    card = Card(
        name=name,
        title=title,
        licence=licence,
        citation=citation,
        provenance=dict(provenance),
        date_origin=DATE_ORIGIN,
        stride=weights.STRIDE,
        halo=weights.HALO,
        queries=weights.QUERIES,
        width=weights.WIDTH,
        modalities=modalities,
        tags=tuple(tags),
        surroundings=surroundings,
    )
    cards.write(card, folder)
    return cards.read(folder)


def _write_graph(folder: Path, file: str, content: bytes) -> Graph:
    (folder / file).write_bytes(content)
    return Graph(file, hashlib.sha256(content).hexdigest())


def check_name(name: str) -> None:
    """Refuses a model name that could be anything but one plain folder.

    Raises:
        ModelError: saying which names are good.
    """
    if not cards.NAME.fullmatch(name):
        raise ModelError(
            f"model name {name!r:.80} is not usable: at most 64 lower-case letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )


def check_free(store: Path, name: str, overwrite: bool) -> None:
    """Refuses to write a model that is there already.

    Raises:
        ModelError: if ``store/name`` exists and ``overwrite`` is false.
    """
    if (store / name).exists() and not overwrite:
        raise ModelError(f"model {name} exists in {store}: give another --name, or --overwrite to replace it")


@contextmanager
def new_model(store: Path, name: str, overwrite: bool) -> Iterator[Path]:
    """A temporary folder that becomes ``store/name`` when the block ends without an error, and vanishes otherwise.

    Raises:
        ModelError: if the name is not usable, or the model exists and ``overwrite`` is false.
        OutputError: if the store cannot be written.
    """
    check_name(name)
    check_free(store, name, overwrite)
    target = store / name
    try:
        store.mkdir(parents=True, exist_ok=True)
        for left in store.glob(f".{name}.*"):
            # Of a process that was killed; one that is at work touches its folder.
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left, ignore_errors=True)
        # Beside the target, so that the rename stays on one file system; the dot hides it from the store.
        part = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=store))
    except OSError as error:
        raise OutputError(f"cannot write models to {store}: {error.strerror}; set MALICE_MODELS") from error
    try:
        yield part
        part.chmod(0o755)  # mkdtemp's 0700 would hide a shared store from other users
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{name}.old.", dir=store))
            os.rename(target, old / name)
            os.rename(part, target)
            shutil.rmtree(old)
        else:
            os.rename(part, target)
    except OSError as error:
        raise OutputError(f"cannot write model {name} to {store}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
