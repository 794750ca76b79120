"""The encoder a run begins with: an installed model, or a checkpoint; and the classifier that comes of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from malice_core import cards, classifier, models, runtime
from malice_core.cards import Card, Modality
from malice_core.classifier import Classifier
from malice_core.errors import ModelError, OutputError
from malice_core.series import Series
from malice_core.store import agreement, modelwriter, restoring, states
from malice_core.store.states import Encoders
from malice_core.store.statistics import Statistics
from malice_core.training import checkpoint, exporting, runfolder
from malice_core.training.finetuning.heads import Head
from malice_core.training.finetuning.labels import Legend
from malice_core.training.malice import MaliceEncoder
from malice_core.training.normalise import Normalise

#: Largest difference of embeddings between torch and graphs; trained weights may be larger than those of a model, and
#: a run of days must not end for a rounding error.
ENCODER_TOLERANCE = 10 * agreement.TOLERANCE
#: Largest difference of a head's logits between torch and its graph that rounding explains.
TOLERANCE = 1e-3
#: The classifier that a new one is taking the place of.
OLD = f".{classifier.FOLDER}.old"


@dataclass(frozen=True)
class Start:
    """Where a run's weights come from.

    Attributes:
        name: for people.
        found: the encoders' state.
        statistics: normalisation by sensor.
        card: of an installed model; None for a checkpoint.
        licence, citation: of the weights.
    """

    name: str
    found: Encoders
    statistics: Mapping[str, Statistics]
    card: Card | None
    licence: str
    citation: str

    @classmethod
    def of(cls, given: str | None) -> Start:
        """What ``model`` names.

        Raises:
            ModelError: if there is no such model, it is damaged, or the checkpoint is of another network or does not
                say how images are normalised.
        """
        if given is not None and os.sep in given and Path(given).is_dir():
            raise ModelError(_cure(Path(given)))
        if given is not None and (Path(given).suffix in (".ckpt", ".pt", ".pth") or os.sep in given):
            return cls._of_checkpoint(Path(given))
        try:
            card = models.default() if given is None else models.load(given)
        except ModelError:
            if given is not None and (Path(given) / runfolder.CONFIG).is_file():
                raise ModelError(_cure(Path(given))) from None
            raise
        if card.surroundings is not None:
            raise ModelError(_auxiliary(f"model {card.name}"))
        statistics = {sensor: _statistics(modality) for sensor, modality in card.modalities.items()}
        found = states.encoders(restoring.state_of(card), statistics, f"model {card.name}")
        return cls(card.name, found, statistics, card, card.licence, card.citation)

    @classmethod
    def _of_checkpoint(cls, path: Path) -> Start:
        # Tensors and plain settings are read, nothing is unpickled.
        content = checkpoint.read(path)
        if "statistics" not in content.hyper_parameters and any(name.startswith("head.") for name in content.state):
            # Those of the published encoders, taken where a checkpoint has none, may not be those of this one.
            raise ModelError(
                f"{path} is of a fine-tuning and does not say how images are normalised: give checkpoints of "
                "pre-training, or of runs with mode=full of this version"
            )
        statistics = exporting.statistics_of(content.hyper_parameters, f"{path}")
        found = states.encoders(content.state, statistics, f"{path}")
        if found.auxiliary:
            raise ModelError(_auxiliary(f"{path}"))
        return cls(path.name, found, found.statistics, None, "NOASSERTION", "none")

    @property
    def identity(self) -> str:
        """What is known of the weights, in one line."""
        return f"{'model' if self.card else 'checkpoint'} {self.name} ({self.digest})"

    @property
    def digest(self) -> str:
        """16 hex digits that change whenever a weight or the normalisation does."""
        if self.card:
            return self.card.identity
        content = [{sensor: asdict(part) for sensor, part in self.statistics.items()}]
        digest = hashlib.sha256(json.dumps(content).encode())
        for name, array in sorted(self.found.state.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def for_sensors(self, sensors: Sequence[str]) -> Start:
        """The same with the encoders of some sensors only."""
        begins = tuple([f"encoder_{s}." for s in sensors] + [f"common_temp_proj.ca_{s}." for s in sensors])
        state = {n: a for n, a in self.found.state.items() if n.startswith(begins) or n == "common_temp_proj.Q"}
        found = replace(self.found, state=state, sensors=tuple(sensors))
        return replace(self, found=found, statistics={s: self.statistics[s] for s in sensors})

    def encoder(self) -> MaliceEncoder:
        """The torch encoder, in evaluation mode on the processor."""
        return exporting.torch_encoder(self.found, {s: len(part.channels) for s, part in self.statistics.items()})

    def normalise(self) -> dict[str, Normalise]:
        """By sensor."""
        return {sensor: Normalise(sensor, part) for sensor, part in self.statistics.items()}


def _auxiliary(name: str) -> str:
    return f"{name} is MALICE Aux, which cannot be fine-tuned: fine-tuning reads no weather and no terrain; give MALICE"


def _cure(folder: Path) -> str:
    """What to give in place of a folder."""
    inside = sorted((folder / runfolder.CHECKPOINTS).glob("*.ckpt"))
    best = [path for path in inside if path.name != runfolder.LAST]
    if inside:
        return f"model={folder} is a run folder: give one of its checkpoints, such as model={(best or inside)[-1]}"
    return f"model={folder} is a folder without checkpoints: give the name of an installed model, or a checkpoint"


def _statistics(modality: Modality) -> Statistics:
    return Statistics(
        channels=modality.channels,
        transform=modality.transform,
        med=modality.med,
        qmin=modality.qmin,
        qmax=modality.qmax,
    )


def write_classifier(
    run: Path,
    start: Start,
    encoder: MaliceEncoder | None,
    head: Head,
    legend: Legend,
    provenance: Mapping[str, str],
    series: Mapping[str, Series],
) -> Classifier:
    """Writes ``RUN/classifier``, whole or not at all, and proves that its graphs compute what was trained.

    One that is there stays until the new one has its name; a kill just between is mended by :func:`put_back`.

    Args:
        run: the run's folder.
        start: what the run began with, its sensors those of the run.
        encoder: as trained; None: it was frozen, and is that of ``start``.
        head: as trained.
        legend: the classes.
        provenance: free text values.
        series: the images of training by sensor.

    Raises:
        ModelError: if graphs and torch disagree.
        OutputError: if it cannot be written.
    """
    target = run / classifier.FOLDER
    put_back(run)
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{classifier.FOLDER}.", dir=run))
    except OSError as error:
        raise OutputError(f"cannot write to {run}: {error.strerror}; make room and resume the run") from error
    try:
        folder = part / classifier.ENCODER
        folder.mkdir()
        card = _write_encoder(folder, start, encoder, provenance)
        sensors = list(start.statistics)
        classifier.write(part, card, sensors, legend.classes, legend.nodata, _checked_graph(head), provenance, series)
        found = classifier.read(part)
        part.chmod(0o755)
        if target.exists():
            target.rename(run / OLD)
        part.rename(target)
        return replace(found, folder=target, card=cards.read(target / classifier.ENCODER))
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}; make room and resume the run") from error
    finally:
        put_back(run)


def put_back(run: Path) -> None:
    """Removes what writing a classifier left; the old one gets its name back where no new one has it.

    Raises:
        OutputError: if it cannot be renamed.
    """
    target, old = run / classifier.FOLDER, run / OLD
    if old.exists() and not target.exists():
        try:
            old.rename(target)
        except OSError as error:
            raise OutputError(f"cannot rename {old} to {target}: {error.strerror}; do so yourself") from error
    for left in run.glob(f".{classifier.FOLDER}.*"):
        shutil.rmtree(left, ignore_errors=True)


def _write_encoder(folder: Path, start: Start, encoder: MaliceEncoder | None, provenance: Mapping[str, str]) -> Card:
    if encoder is None and start.card is not None:
        # Byte for byte the graphs it was trained on.
        assert start.card.folder is not None
        for sensor in start.card.modalities:
            for role in ("spatial", "temporal"):
                path = start.card.graph_path(sensor, role)
                (folder / path.name).write_bytes(start.card.graph_bytes(sensor, role))
        shutil.copyfile(start.card.folder / cards.FILE_NAME, folder / cards.FILE_NAME)
        return cards.read(folder)
    found = start.found
    if encoder is not None:
        state = {name: tensor.detach().cpu().numpy() for name, tensor in encoder.state_dict().items()}
        found = states.encoders(state, start.statistics, "the trained encoder")
    card = modelwriter.write(
        folder,
        classifier.ENCODER,
        {sensor: found.weights(sensor, start.name) for sensor in found.sensors},
        title=f"{start.name}, {'frozen' if encoder is None else 'fine-tuned'}",
        licence=start.licence,
        citation=start.citation,
        provenance=provenance,
        statistics=start.statistics,
    )
    agreement.between_runtimes(card)
    exporting.with_torch(card, found, ENCODER_TOLERANCE)
    return card


def _checked_graph(head: Head) -> bytes:
    """The head's graph, after comparing it with torch on random input."""
    graph = head.graph()
    given = np.random.default_rng(0).normal(0, 1, (64, head.mean.numel())).astype(np.float32)
    session = runtime.choose("onnxruntime", "cpu").open(graph, {"embedding": given.shape})
    with torch.inference_mode():
        wanted = head(torch.from_numpy(given).to(head.mean.device)).cpu().numpy()
    worst = float(np.abs(session.run({"embedding": given}) - wanted).max())
    if not worst <= TOLERANCE * max(1.0, float(np.abs(wanted).max())):
        raise ModelError(f"the graph of the head differs from what was trained by {worst:.2g}: it is not written")
    return graph
