"""The pixel grid of a run: a lattice anchored in CRS coordinates, windows on it, and blocks.

Everything here is whole numbers. A pixel has one *global* index (row, column), counted from the origin of
the CRS: column = floor(x / resolution + 1e-3), and rows count downwards, row = -floor(y / resolution + 1e-3).
The same ground pixel therefore has the same index in any area of interest, and blocks of 8 pixels have
the same phase everywhere. Nothing else in the program turns coordinates into pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from affine import Affine

from malice_core.errors import InputError


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels: rows [row, row + height), columns [col, col + width), global indices."""

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise ValueError(f"window sides must not be negative, got {self.height} x {self.width}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def end_row(self) -> int:
        return self.row + self.height

    @property
    def end_col(self) -> int:
        return self.col + self.width

    @classmethod
    def between(cls, row: int, col: int, end_row: int, end_col: int) -> Window:
        """The window from (row, col) up to, not including, (end_row, end_col); empty if they cross."""
        return cls(row, col, max(0, end_row - row), max(0, end_col - col))

    def expand(self, margin: int) -> Window:
        """This window with ``margin`` pixels more on each side."""
        return Window(self.row - margin, self.col - margin, self.height + 2 * margin, self.width + 2 * margin)

    def intersect(self, other: Window) -> Window:
        """The pixels in both windows (possibly an empty window)."""
        return Window.between(
            max(self.row, other.row),
            max(self.col, other.col),
            min(self.end_row, other.end_row),
            min(self.end_col, other.end_col),
        )

    def union(self, other: Window) -> Window:
        """The smallest window that holds both."""
        return Window.between(
            min(self.row, other.row),
            min(self.col, other.col),
            max(self.end_row, other.end_row),
            max(self.end_col, other.end_col),
        )

    def contains(self, other: Window) -> bool:
        return (
            self.row <= other.row
            and self.col <= other.col
            and self.end_row >= other.end_row
            and self.end_col >= other.end_col
        )

    def snap(self, step: int, anchor: tuple[int, int] = (0, 0)) -> Window:
        """This window grown outwards to multiples of ``step`` pixels counted from ``anchor``."""
        row, col = anchor
        return Window.between(
            row + (self.row - row) // step * step,
            col + (self.col - col) // step * step,
            row - (row - self.end_row) // step * step,
            col - (col - self.end_col) // step * step,
        )

    def tiles(self, side: int) -> list[Window]:
        """Squares of ``side`` pixels that cover this window, row by row from its first pixel; cut off at its end."""
        return [
            Window(row, col, side, side).intersect(self)
            for row in range(self.row, self.end_row, side)
            for col in range(self.col, self.end_col, side)
        ]

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """Row and column slices of this window in an array that covers ``outer``.

        Raises:
            ValueError: if this window does not lie inside ``outer``.
        """
        if not outer.contains(self):
            raise ValueError(f"{self} does not lie inside {outer}")
        row, col = self.row - outer.row, self.col - outer.col
        return slice(row, row + self.height), slice(col, col + self.width)


@dataclass(frozen=True)
class Lattice:
    """A north-up grid of square pixels in a projected CRS.

    Attributes:
        crs: well-known text (or ``EPSG:n``) of the CRS, as rasterio writes it.
        res: pixel size in metres.
        x0, y0: CRS coordinates of the upper left corner of the pixel with global index (0, 0); both
            smaller than one pixel in size: the part of the origin that is no whole number of pixels.
    """

    crs: str
    res: float
    x0: float
    y0: float

    @classmethod
    def anchored(cls, crs: str, res: float, left: float, top: float) -> Lattice:
        """The lattice of pixels of size ``res`` that has a pixel corner at (left, top)."""
        col = math.floor(left / res + 1e-3)
        row = -math.floor(top / res + 1e-3)
        # A rest below a thousandth of a pixel is rounding in the file's header, not an offset: dropping it
        # gives neighbouring files, whose headers round differently, the same lattice.
        x0, y0 = left - col * res, top + row * res
        return cls(crs, res, x0 if abs(x0) > 1e-3 * res else 0.0, y0 if abs(y0) > 1e-3 * res else 0.0)

    def transform(self, window: Window) -> Affine:
        """Affine transform of an array that covers ``window``."""
        return Affine(self.res, 0.0, self.x0 + window.col * self.res, 0.0, -self.res, self.y0 - window.row * self.res)

    def bounds(self, window: Window) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of ``window`` in CRS coordinates."""
        left, top = self.x0 + window.col * self.res, self.y0 - window.row * self.res
        return left, top - window.height * self.res, left + window.width * self.res, top

    def window(self, left: float, bottom: float, right: float, top: float) -> Window:
        """The smallest window that covers the bounds, snapped outwards, at least one pixel.

        A thousandth of a pixel is forgiven, so bounds that were written as text and read back do not grow.

        Raises:
            InputError: if the bounds are empty or not finite.
        """
        if not all(map(math.isfinite, (left, bottom, right, top))) or left >= right or bottom >= top:
            raise InputError(
                f"the area {left:g} {bottom:g} {right:g} {top:g} is empty: give MINX MINY MAXX MAXY with "
                "MINX < MAXX and MINY < MAXY"
            )
        row, col = math.floor((self.y0 - top) / self.res + 1e-3), math.floor((left - self.x0) / self.res + 1e-3)
        end_row, end_col = (math.ceil(distance / self.res - 1e-3) for distance in (self.y0 - bottom, right - self.x0))
        return Window.between(row, col, max(end_row, row + 1), max(end_col, col + 1))

    def holds(self, transform: Affine, tolerance: float = 0.02) -> bool:
        """True if pixels under ``transform`` lie on this lattice to within ``tolerance`` of a pixel."""
        if abs(transform.b) + abs(transform.d) > 1e-9 * self.res:
            return False
        if abs(transform.a - self.res) > 1e-6 * self.res or abs(transform.e + self.res) > 1e-6 * self.res:
            return False
        col, row = (transform.c - self.x0) / self.res, (self.y0 - transform.f) / self.res
        return bool(abs(col - round(col)) < tolerance and abs(row - round(row)) < tolerance)


@dataclass(frozen=True)
class Block:
    """One unit of work.

    Attributes:
        index: position in row-major order, the key in the journal.
        core: pixels this block is responsible for, inside the area of the run.
        input: pixels the encoder reads; all blocks of a run have inputs of one shape.
    """

    index: int
    core: Window
    input: Window


def block_text(sides: tuple[int, int]) -> str:
    """Sides of blocks as ``--block`` takes them."""
    height, width = sides
    return f"{height}" if height == width else f"{height}x{width}"


@dataclass(frozen=True)
class BlockGrid:
    """Blocks of ``sides`` pixels over ``area``, each with a halo, all with inputs of one shape.

    Attributes:
        area: what the run must deliver.
        sides: wanted (height, width) of blocks, multiples of ``stride``; blocks are made equal, so they can be smaller.
        halo: pixels read around a block, at least the network's reach.
        stride: the network is only shift-equivariant by this many pixels.
        clip: ``False`` (mirror edges): inputs may leave the area and sit on the CRS-anchored stride grid.
            ``True`` (published edges): the grid is anchored at the area's first pixel and inputs stay
            inside the area, so that its edge meets the network's own reflection.
    """

    area: Window
    sides: tuple[int, int]
    halo: int
    stride: int
    clip: bool = False

    def __post_init__(self) -> None:
        if any(side <= 0 or side % self.stride for side in self.sides):
            raise InputError(f"--block {block_text(self.sides)} is not a positive multiple of {self.stride}")
        if self.clip and (
            self.area.height % self.stride or self.area.width % self.stride or min(self.area.shape) < 2 * self.stride
        ):
            raise InputError(
                f"--edge published needs sides that are multiples of {self.stride} and at least "
                f"{2 * self.stride}, this area is {self.area.width} x {self.area.height} pixels: "
                "choose another --aoi, or --edge mirror"
            )

    @property
    def anchor(self) -> tuple[int, int]:
        return (self.area.row, self.area.col) if self.clip else (0, 0)

    def _axis(self, side: int, begin: int, end: int, first: int, last: int) -> list[tuple[int, int, int, int]]:
        """Cuts [begin, end) (stride-aligned) into equal blocks: (core begin, core end, input begin, size).

        Cores are clipped to the area [first, last), inputs are not (or stay inside it when ``clip``).
        """
        size, width = self._sizes(side, end - begin)
        cuts = []
        for start in range(begin, end, size):
            source = start - self.halo
            if self.clip:
                # An input that would leave the area is moved back inside: one shape for all blocks.
                source = max(begin, min(source, end - width))
            cuts.append((max(start, first), min(start + size, last), source, width))
        return cuts

    def _sizes(self, side: int, length: int) -> tuple[int, int]:
        """Pixels of a block's core and of its input along an axis of ``length`` stride-aligned pixels."""
        steps = length // self.stride
        count = -(-steps // (side // self.stride))
        size = -(-steps // count) * self.stride
        width = size + 2 * self.halo
        return size, min(width, length) if self.clip else width

    @property
    def whole(self) -> Window:
        """The area grown to the stride grid."""
        return self.area.snap(self.stride, self.anchor)

    def blocks(self) -> Iterator[Block]:
        """All blocks, row by row."""
        whole = self.whole
        rows = self._axis(self.sides[0], whole.row, whole.end_row, self.area.row, self.area.end_row)
        cols = self._axis(self.sides[1], whole.col, whole.end_col, self.area.col, self.area.end_col)
        index = 0
        for row, end_row, in_row, height in rows:
            for col, end_col, in_col, width in cols:
                yield Block(index, Window.between(row, col, end_row, end_col), Window(in_row, in_col, height, width))
                index += 1

    def touching(self, window: Window) -> list[int]:
        """Indices of the blocks that have pixels of ``window``, a part of the area; ascending."""
        whole, (height, width) = self.whole, self.core_shape
        across = -(-whole.width // width)
        rows = range((window.row - whole.row) // height, (window.end_row - 1 - whole.row) // height + 1)
        cols = range((window.col - whole.col) // width, (window.end_col - 1 - whole.col) // width + 1)
        return [row * across + col for row in rows for col in cols]

    @property
    def count(self) -> int:
        rows, cols = (-(-length // side) for length, side in zip(self.whole.shape, self.core_shape, strict=True))
        return rows * cols

    @property
    def input_shape(self) -> tuple[int, int]:
        """(height, width) of every block's input."""
        rows, cols = (self._sizes(*axis)[1] for axis in zip(self.sides, self.whole.shape, strict=True))
        return rows, cols

    @property
    def core_shape(self) -> tuple[int, int]:
        """(height, width) of the largest core, snapped to the stride."""
        rows, cols = (self._sizes(*axis)[0] for axis in zip(self.sides, self.whole.shape, strict=True))
        return rows, cols
