"""The last convolution of a spatial graph: maps of 32 channels, which are kept of all dates, to 64 features of a pixel.

Vectors are of features here, not of pixels; each number of the maps is multiplied by all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from malice_core.kernel.layers import Layers
from malice_core.weights import LAST_WIDTH, WIDTH

#: Rows and columns of the kernel.
SIDE = 3


class Convolution(Layers):
    """Writes it into functions."""

    def places(self, pixels: Sequence[Any], width: Any, line: Any) -> list[Any]:
        """Where the pixels of a vector lie in the maps of a date.

        Args:
            pixels: numbers of them, row by row.
            width: pixels in a row.
            line: numbers from one row of the maps to the next.
        """
        e, found = self.e, []
        for pixel in pixels:
            row = e.quotient(pixel, width)
            col = e.sum(pixel, e.times(-1, e.times(row, width)))
            found.append(e.sum(e.times(row, line), e.times(col, LAST_WIDTH // self.each)))
        return found

    def convolve(self, into: Any, maps: Any, places: Sequence[Any], line: Any, kernel: Any, bias: Any) -> None:
        """Writes the features of a vector's pixels, (pixels, 64), negative ones as 0.

        Args:
            maps: of one date, with a border of one pixel.
            places, line: as of :meth:`places`.
            kernel: (3, 3, 32, 64), two channels of the maps as one number where the target has pairs.
            bias: (64,).
        """
        e, some, count = self.e, self.rows, self.cols
        # Columns of the kernel follow each other in a row of the maps.
        across = SIDE * LAST_WIDTH // self.each

        def some_features(feature: Any, pixels: Sequence[int]) -> None:
            begin = [e.load(e.at(bias, feature, self.vectors(more))) for _ in pixels for more in range(count)]

            def each_row(row: Any, sums: list[Any]) -> list[Any]:
                sources = [e.at(maps, places[pixel], e.times(row, line)) for pixel in pixels]
                factors = e.at(kernel, e.times(row, across * WIDTH), feature)

                def some_channels(first: Any, sums: list[Any]) -> list[Any]:
                    for channel in (e.sum(first, more) for more in range(2)):
                        place = e.times(channel, WIDTH)
                        values = [e.load(e.at(factors, place, self.vectors(more))) for more in range(count)]
                        for number, source in enumerate(sources):
                            given = e.everywhere(e.at(source, channel))
                            for more, value in enumerate(values):
                                at = number * count + more
                                sums[at] = self.times(given, value, sums[at])
                    return sums

                return e.loop(e.index(across), 2, some_channels, sums)

            sums = e.loop(e.index(SIDE), 1, each_row, begin)
            for number, pixel in enumerate(pixels):
                for more in range(count):
                    value = e.larger(sums[number * count + more], e.constant(0.0))
                    e.store(value, e.at(into, pixel * WIDTH, feature, self.vectors(more)))

        def all_pixels(feature: Any, _: Any) -> None:
            for first in range(0, self.lanes, some):
                some_features(feature, range(first, first + some))

        e.loop(e.index(WIDTH), count * self.lanes, all_pixels)
