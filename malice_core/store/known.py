"""Models that can be installed by name: what they are, under which licence, and where they lie. Loads no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
