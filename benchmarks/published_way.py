"""Runs the published Sentinel-2 graph over a folder of images the way its users do.

One onnxruntime session on the CPU with its default options; patches of 128 x 128 pixels that overlap by 10 pixels on
each side (the inner 108 x 108 are kept; at the edge of the images, the patch is moved inside); all dates of a patch
at once: read with rasterio, normalise, run, write the kept part of the 640 bands as float32 GeoTIFF. It has no mask
and no bound on memory. ``embed_vs_published.py`` starts it in a process of its own.
"""

from __future__ import annotations

import argparse
import re
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime
import rasterio
from rasterio.windows import Window

from malice_core.bands import DATE_ORIGIN, S2
from malice_core.store.statistics import MALICE

PATCH, OVERLAP = 128, 10


def cuts(length: int) -> list[tuple[int, int, int]]:
    """Patches along one axis: (first pixel read, first kept, end of kept)."""
    found, begin = [], 0
    while begin < length:
        start = max(0, min(begin - OVERLAP, length - PATCH))
        end = length if start + PATCH >= length else start + PATCH - OVERLAP
        found.append((start, begin, end))
        begin = end
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the published Sentinel-2 graph patch by patch.")
    parser.add_argument("--s2", type=Path, required=True, help="folder of S2_YYYYMMDD.tif")
    parser.add_argument("--model", type=Path, required=True, help="malice_s2.onnx")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()

    files = sorted(given.s2.glob("S2_*.tif"))
    days = [date.fromisoformat("-".join(re.findall(r"(\d{4})(\d\d)(\d\d)", path.stem)[0])) for path in files]
    sources = [rasterio.open(path) for path in files]
    statistics = MALICE["s2"]
    med, low, high = (
        np.array(x, np.float32)[:, None, None] for x in (statistics.med, statistics.qmin, statistics.qmax)
    )
    session = onnxruntime.InferenceSession(given.model.read_bytes(), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    inputs = dict(
        zip(
            names[1:],
            (np.array([[(day - DATE_ORIGIN).days for day in days]], np.float32), np.zeros((1, len(days)), bool)),
            strict=True,
        )
    )
    height, width = sources[0].shape
    profile = sources[0].profile | {"count": 640, "dtype": "float32", "nodata": None, "BIGTIFF": "IF_SAFER"}
    for key in ("compress", "predictor", "zlevel"):
        profile.pop(key, None)
    with rasterio.open(given.output, "w", **profile) as target:
        for row, row_kept, row_end in cuts(height):
            for col, col_kept, col_end in cuts(width):
                window = Window(col, row, min(PATCH, width), min(PATCH, height))
                sits = np.stack([source.read(window=window) for source in sources]).astype(np.float32)
                sits = (np.clip(sits, low, high) - med) / (high - low)
                assert sits.shape[1] == len(S2.bands)
                (result,) = session.run(None, {names[0]: sits[None], **inputs})
                # (1, 10, 64, h, w): the 10 queries of 64 features become bands in that order.
                kept = result.reshape(640, *result.shape[-2:])[
                    :, row_kept - row : row_end - row, col_kept - col : col_end - col
                ]
                target.write(kept, window=Window(col_kept, row_kept, col_end - col_kept, row_end - row_kept))


if __name__ == "__main__":
    main()
