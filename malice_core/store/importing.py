"""Makes a model of the store out of published files, on disk or on the web."""

from __future__ import annotations

import hashlib
import http.client
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from malice_core import cards
from malice_core.cards import Card
from malice_core.errors import InputError, ModelError
from malice_core.store import agreement, modelwriter, published
from malice_core.store.known import LICENCE, REGISTRY, Remote

CITATION = (
    "Kalinicheva, Dumeur, Inglada et al.: MALICE, Multi-Modal Self-Supervised Learning for Aligned Satellite Image "
    "Time Series Encoder; extends ALISE, arXiv:2407.08448"
)

Say = Callable[[str], None]
#: Is told of a download: name of the file, bytes that are here, bytes of the whole (0 if the server does not tell).
Advance = Callable[[str, int, int], None]


def import_files(
    paths: Sequence[Path], name: str, store: Path, *, overwrite: bool = False, source: str = "", say: Say = print
) -> Card:
    """Imports published files as the model ``store/name``: ONNX, one for each modality in any order, or a checkpoint.

    The model appears only if, for every modality, both graphs together agree on random input with the original file
    run in onnxruntime (of a checkpoint: with the torch encoder that has its weights) within ``agreement.rounding``.

    Args:
        paths: published files; a checkpoint holds all modalities and is given alone.
        name: of the new model.
        store: folder of models, created when missing.
        overwrite: replace a model of that name.
        source: where the files come from, for the card.
        say: gets one line for each thing done.

    Raises:
        ModelError: naming the file that is not one of the published encoders, is damaged, or is given twice; or if
            the model exists and ``overwrite`` is false; or, for a checkpoint, if torch is not installed.
        OutputError: if the store cannot be written.
    """
    checkpoints = [path for path in paths if _is_checkpoint(path)]
    if checkpoints:
        if len(paths) > 1:
            raise ModelError(f"{checkpoints[0]} is a checkpoint, which holds all encoders: give it alone")
        return _import_checkpoint(checkpoints[0], name, store, overwrite, source, say)
    originals: dict[str, published.Published] = {}
    for path in paths:
        original = published.read(path)
        if original.sensor in originals:
            raise ModelError(
                f"{path}: {originals[original.sensor].file} is a {original.sensor} encoder already, give one of both"
            )
        originals[original.sensor] = original
        say(f"{path}: {original.sensor} encoder, {len(original.weights)} weights found, none left over")
    provenance = {"source": source or "imported from disk"}
    for sensor, original in originals.items():
        provenance[f"{sensor}_file"], provenance[f"{sensor}_sha256"] = original.file, original.sha256
    with modelwriter.new_model(store, name, overwrite) as folder:
        encoders = {sensor: original.weights for sensor, original in originals.items()}
        card = modelwriter.write(
            folder,
            name,
            encoders,
            title=f"MALICE, published encoders: {', '.join(sorted(originals, reverse=True))}",
            licence=LICENCE,
            citation=CITATION,
            provenance=provenance,
        )
        for original in originals.values():
            worst = agreement.with_published(card, original)
            say(f"{original.sensor}: the two graphs agree with {original.file} within {worst:.1e}")
    say(f"model {name} is in {store / name} (licence of the weights: {LICENCE})")
    return cards.read(store / name)


def _is_checkpoint(path: Path) -> bool:
    """By its suffix, or because it is a zip archive, as ONNX files never are."""
    if path.suffix in (".ckpt", ".pt", ".pth"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return False  # whoever reads it says why it cannot be read


def _import_checkpoint(path: Path, name: str, store: Path, overwrite: bool, source: str, say: Say) -> Card:
    """The model of a Lightning checkpoint, of which nothing but tensors and plain settings is read."""
    # Here, not above: published ONNX files are imported without torch.
    from malice_core.training import checkpoint

    checkpoint.require_torch()
    from malice_core.training import exporting

    modelwriter.check_name(name)
    found = checkpoint.read(path)
    say(f"{path}: {len(found.state)} tensors ({', '.join(f'{k} {v}' for k, v in found.facts.items())})")
    if found.skipped:
        say(f"skipped, no tensors of a known type: {', '.join(found.skipped):.2000}")
    ours = "statistics" in found.hyper_parameters
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    card = exporting.export(
        found.state,
        name,
        store,
        title=f"{'Encoders' if ours else 'Published encoders'} of {path.name}",
        # A checkpoint trained here has its licence from whoever trained it: export is the command that says it.
        licence="NOASSERTION" if ours else LICENCE,
        citation=CITATION,
        provenance={"source": source or "imported from disk", "file": path.name, "sha256": digest, **found.facts},
        statistics=exporting.statistics_of(found.hyper_parameters, f"{path}"),
        overwrite=overwrite,
        source=f"{path}",
        say=say,
    )
    say(f"model {name} is in {store / name} (licence of the weights: {card.licence})")
    return card


def install(
    name: str, store: Path, *, overwrite: bool = False, say: Say = print, advance: Advance = lambda *_: None
) -> Card:
    """Downloads a known model and imports it.

    Args:
        name, store, overwrite, say: as of :func:`import_files`.
        advance: is called while files arrive, and may raise to end it.

    Raises:
        ModelError: if the name is not known, or a file is not the one that was pinned.
        InputError: without network, or when the server does not have the file.
        OutputError: if the store cannot be written.
    """
    modelwriter.check_name(name)
    if name not in REGISTRY:
        raise ModelError(f"model {name} is not known, there is {', '.join(REGISTRY)}; others are imported from files")
    known = REGISTRY[name]
    modelwriter.check_free(store, name, overwrite)
    say(f"{known.title}, from {known.source}")
    say(f"licence of the weights: {known.licence} (https://spdx.org/licenses/{known.licence}.html)")
    with tempfile.TemporaryDirectory(prefix="malice-") as folder:
        paths = [_download(remote, Path(folder), name, say, advance) for remote in known.files]
        return import_files(paths, name, store, overwrite=overwrite, source=known.source, say=say)


def _download(remote: Remote, folder: Path, name: str, say: Say, advance: Advance) -> Path:
    """One file of a known model, its hash checked while it streams."""
    target, digest, size = folder / remote.file, hashlib.sha256(), 0
    cure = f"or import it from disk: python -m malice_core.models import malice_s2.onnx malice_s1.onnx --name {name}"
    try:
        with urllib.request.urlopen(remote.url, timeout=30) as answer, target.open("wb") as file:
            whole = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(1 << 16):
                size += len(chunk)
                advance(remote.file, size, whole)
                if size > published.MAX_BYTES:
                    raise ModelError(f"{remote.url} is larger than {published.MAX_BYTES >> 20} MB; {cure}")
                digest.update(chunk)
                file.write(chunk)
    except urllib.error.HTTPError as error:
        raise InputError(f"{remote.url}: the server answers {error.code} {error.reason}; {cure}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{remote.url} cannot be reached ({reason}): try again with network, {cure}") from error
    if digest.hexdigest() != remote.sha256:
        raise ModelError(
            f"{remote.url} is not the pinned file ({size} bytes, sha256 {digest.hexdigest()[:12]}…, wanted "
            f"{remote.sha256[:12]}…): it was cut off or changed; try again, {cure}"
        )
    say(f"{remote.file}: {size} bytes, sha256 as pinned")
    return target
