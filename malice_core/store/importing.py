"""Makes a model of the store out of published files, on disk or on the web."""

from __future__ import annotations

import hashlib
import http.client
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from malice_core import cards
from malice_core.cards import Card
from malice_core.errors import InputError, ModelError
from malice_core.store import agreement, modelwriter, published

CITATION = (
    "Kalinicheva, Dumeur, Inglada et al.: MALICE, Multi-Modal Self-Supervised Learning for Aligned Satellite Image "
    "Time Series Encoder; extends ALISE, arXiv:2407.08448"
)
LICENCE = "AGPL-3.0-only"


@dataclass(frozen=True)
class Remote:
    """A file on the web: where it is, its name, and what it must be."""

    url: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Known:
    """A model that can be installed by name."""

    title: str
    licence: str
    source: str
    files: tuple[Remote, ...]


_COMMIT = "41762442c897d26e377fed3194164b1842111cb6"
_REPOSITORY = "Evoland-Land-Monitoring-Evolution/openeo_malice"
_RAW = f"https://raw.githubusercontent.com/{_REPOSITORY}/{_COMMIT}/models/malice_models"

#: Pinned to one commit and to the files' bytes.
REGISTRY: Mapping[str, Known] = {
    "malice": Known(
        title="MALICE, published encoders for Sentinel-2 and Sentinel-1",
        licence=LICENCE,
        source=f"https://github.com/{_REPOSITORY} at {_COMMIT[:7]}, models/malice_models",
        files=(
            Remote(
                f"{_RAW}/malice_s2.onnx",
                "malice_s2.onnx",
                "b70b3fa4befad6a341a8419ec0af7023e41514c91cb1acab2537d72251934e31",
            ),
            Remote(
                f"{_RAW}/malice_s1.onnx",
                "malice_s1.onnx",
                "95a01eb666a95aaed153e056e3d775f937690360f9a27a5060a42fd0b40f36e1",
            ),
        ),
    )
}

Say = Callable[[str], None]


def import_files(
    paths: Sequence[Path], name: str, store: Path, *, overwrite: bool = False, source: str = "", say: Say = print
) -> Card:
    """Imports published ONNX files, one for each modality in any order, as the model ``store/name``.

    The model appears only if, for every modality, both graphs together agree with the original file run in
    onnxruntime on random input within ``agreement.TOLERANCE``.

    Args:
        paths: published files.
        name: of the new model.
        store: folder of models, created when missing.
        overwrite: replace a model of that name.
        source: where the files come from, for the card.
        say: gets one line for each thing done.

    Raises:
        ModelError: naming the file that is not one of the published encoders, is damaged, or is given twice; or if
            the model exists and ``overwrite`` is false.
        OutputError: if the store cannot be written.
    """
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


def install(name: str, store: Path, *, overwrite: bool = False, say: Say = print) -> Card:
    """Downloads a known model and imports it.

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
        paths = [_download(remote, Path(folder), name, say) for remote in known.files]
        return import_files(paths, name, store, overwrite=overwrite, source=known.source, say=say)


def _download(remote: Remote, folder: Path, name: str, say: Say) -> Path:
    """One file of a known model, its hash checked while it streams."""
    target, digest, size = folder / remote.file, hashlib.sha256(), 0
    cure = f"or import it from disk: python -m malice_core.models import malice_s2.onnx malice_s1.onnx --name {name}"
    try:
        with urllib.request.urlopen(remote.url, timeout=30) as answer, target.open("wb") as file:
            while chunk := answer.read(1 << 16):
                size += len(chunk)
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
