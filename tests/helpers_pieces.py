"""Jobs whose outputs have several pieces though their areas are small, and runs that are killed while they write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers_embed import write_series

#: Sides of a shard and of a tile in these tests; 32 bands of float32 a shard.
SHARD, SIDE, SHARD_BYTES = 64, 32, 64 * 64 * 4 * 32
#: Embeds with such pieces and kills itself at the n-th look whether the run was cancelled, counted in pieces.
PROGRAM = f"""
import os, signal, sys
from dataclasses import replace
from malice_core import assembling, cube, embed, mosaic, product
cube.SHARD, cube.SHARD_BYTES, mosaic.SIDE = {SHARD}, {SHARD_BYTES}, {SIDE}
left, product.TILE = int(sys.argv[1]), int(sys.argv[2])

def deadly(kind):
    write = kind.write
    def one(self, piece, means):
        def dying():
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            means.check()
        return write(self, piece, replace(means, check=dying))
    kind.write = one

deadly(cube.Store)
deadly(mosaic.Mosaic)
deadly(assembling.File)
sys.exit(embed.main(sys.argv[3:]))
"""


def two_sensors(folder: Path, tiny: str) -> list[object]:
    """Images of 75 x 67 pixels, radar of a part of them and two queries, in blocks of 32."""
    s2 = write_series(folder / "s2", (75, 67), 2)
    s1 = write_series(folder / "s1", (50, 40), 2, sensor="s1", origin=(500080.0, 5599900.0))
    return ["--s2", s2, "--s1", s1, "--model", tiny, "--queries", "3,0", "--block", 32]


def killed(looks: int, arguments: Sequence[object], tile: int = 128) -> None:
    """Runs a job in a process of its own that is killed in the middle of a piece.

    Args:
        tile: side of the tiles of a GeoTIFF.
    """
    command = [sys.executable, "-c", PROGRAM, f"{looks}", f"{tile}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr


def states(folder: Path, pattern: str) -> dict[Path, tuple[int, int]]:
    """What changes when files are written again."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob(pattern) if path.is_file()}
