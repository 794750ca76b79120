"""Clusters of an embedding: mini-batch k-means on drawn pixels (Sculley 2010, doi 10.1145/1772690.1772862).

Every pixel belongs to the centre that is nearest. Centres are numbered by how many of the drawn pixels are theirs, the
largest first, so that numbers do not hang on the order in which chance found them. A fit can be kept and used on other
embeddings of the model: then a cluster means the same in other areas of the year.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import malice_core
from malice_core.analysis import fits
from malice_core.analysis.embedding import Kind
from malice_core.analysis.legend import Legend, numbered
from malice_core.errors import InputError

SCHEMA = 1
#: Clusters at most: they are told apart by colours.
MOST = 1000
#: Pixels a step, steps over all drawn pixels, and beginnings that are tried.
BATCH, PASSES, STARTS = 4096, 200, 5
#: Squares of larger numbers are none in single precision, in which scikit-learn adds them up.
LARGEST = 1e15

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """Centres that pixels are compared with.

    Attributes:
        kind: the embeddings they are of.
        centres: (clusters, features).
        sizes: drawn pixels of each, descending.
        mean, deviation: (features,) of the drawn pixels.
        source: where they come from, for people.
    """

    kind: Kind
    centres: Floats = field(repr=False)
    sizes: tuple[int, ...]
    mean: Floats = field(repr=False)
    deviation: Floats = field(repr=False)
    source: Mapping[str, Any]

    @property
    def legend(self) -> Legend:
        """Values, names and colours."""
        return numbered(len(self.centres))

    @classmethod
    def fitted(
        cls, kind: Kind, values: NDArray[np.float32], count: int, seed: int, source: Mapping[str, Any], name: str
    ) -> Clusters:
        """Finds the centres.

        Args:
            values: (pixels, features) of drawn pixels.
            count: of clusters.
            seed: of the beginnings and batches.
            source: see the attribute.
            name: of the embedding, for messages.

        Raises:
            InputError: if there are fewer different pixels than clusters.
        """
        from sklearn.cluster import MiniBatchKMeans

        if (largest := float(np.abs(values).max())) > LARGEST:
            raise InputError(f"{name} holds numbers as large as {largest:g}, no embedding does: embed it again")
        if len(values) < 10 * count:
            _require_different(values, count, name)
        found = MiniBatchKMeans(count, random_state=seed, batch_size=BATCH, max_iter=PASSES, n_init=STARTS).fit(values)
        centres = found.cluster_centers_.astype(np.float64)
        sizes = np.bincount(nearest(centres, values.astype(np.float64)), minlength=count)
        if not sizes.all():
            # A centre without pixels is chance, or the pixels are few in many copies; to compare all takes long.
            _require_different(values, count, name)
        order = np.argsort(-sizes, kind="stable")
        mean, deviation = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        return cls(kind, centres[order], tuple(int(one) for one in sizes[order]), mean, deviation, dict(source))

    @property
    def identity(self) -> str:
        """16 hex digits that change whenever the clusters of an embedding do."""
        return hashlib.sha256(json.dumps(self.centres.tolist()).encode()).hexdigest()[:16]

    def text(self) -> str:
        """As it is kept in a file."""
        content = {
            "schema": SCHEMA,
            "tool": "cluster",
            "version": malice_core.__version__,
            "identity": self.identity,
            "source": dict(self.source),
            "embedding": self.kind.plain(),
            "sizes": list(self.sizes),
            "classes": self.legend.plain(),
            "centres": self.centres.tolist(),
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
        }
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> Clusters:
        """Reads a fit.

        Raises:
            InputError: if the file is none.
        """
        content = fits.content(path, "cluster", SCHEMA)
        try:
            kind = Kind.read(content.get("embedding"))
            centres = np.array(content["centres"], np.float64)
            sizes = tuple(int(one) for one in content["sizes"])
            if centres.ndim != 2 or not 1 <= len(centres) <= MOST or centres.shape[1] != kind.features:
                raise ValueError(f"its centres have the shape {centres.shape}")
            mean, deviation = (np.array(content[name], np.float64) for name in ("mean", "deviation"))
            if not all(np.isfinite(one).all() for one in (centres, mean, deviation)) or len(sizes) != len(centres):
                raise ValueError("its centres are not finite, or lack sizes")
            if mean.shape != (kind.features,) or deviation.shape != mean.shape:
                raise ValueError(f"its mean has the shape {mean.shape}")
            return cls(kind, centres, sizes, mean, deviation, dict(content["source"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"--fit {path} is damaged: {error}; write it again with --save-fit") from error


def _require_different(values: NDArray[np.float32], count: int, name: str) -> None:
    """Raises InputError if there are fewer different pixels than clusters."""
    if (different := len(np.unique(values, axis=0))) < count:
        raise InputError(f"--clusters {count}: {name} has {different} different pixels with data: give fewer clusters")


def nearest(centres: Floats, values: Floats) -> NDArray[np.intp]:
    """(pixels,) number of the nearest centre of each; of several equally near ones the first.

    Args:
        centres: (clusters, features).
        values: (pixels, features).
    """
    # The square of a pixel's own length is the same for all centres.
    far = values @ (-2 * centres.T)
    far += (centres**2).sum(axis=1)
    found: NDArray[np.intp] = far.argmin(axis=1)
    return found
