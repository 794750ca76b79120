"""The temporal encoder of ``graphs.temporal_graph`` as a function of machine code, for any numbers of pixels and dates,
with the last convolution of ``graphs.spatial_graph`` before it.

As many pixels as a vector has numbers go through all of it together. What is known of them lies in memory as
(dates, channels, pixels); dates are filled up to a multiple of what a product of matrices takes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from malice_core.graphs import MISSING
from malice_core.kernel.convolution import SIDE, Convolution
from malice_core.kernel.emit import Emitter, Target
from malice_core.kernel.layers import FILL, LEAST, POWERS
from malice_core.weights import HIDDEN, LAST_WIDTH, LAYERS, QUERIES, QUERY_HEADS, WIDTH

ROWS = QUERIES * QUERY_HEADS
#: Numbers of the kernel of the last convolution, which comes first of all weights, with its bias.
KERNEL = SIDE * SIDE * LAST_WIDTH * WIDTH
#: Weights of a layer, and of the projector: name and shape; matrices are (inputs, outputs).
LAYER: dict[str, tuple[int, ...]] = {
    "qk": (WIDTH, 2 * WIDTH),
    "qk bias": (2 * WIDTH,),
    "v": (WIDTH, WIDTH),
    "v bias": (WIDTH,),
    "context": (WIDTH, WIDTH),
    "context bias": (WIDTH,),
    "first": (WIDTH, HIDDEN),
    "first bias": (HIDDEN,),
    "second": (HIDDEN, WIDTH),
    "second bias": (WIDTH,),
    "norm scale": (WIDTH,),
    "norm2 scale": (WIDTH,),
    "norm2 shift": (WIDTH,),
}
PROJECTOR: dict[str, tuple[int, ...]] = {
    "rows": (WIDTH, ROWS),
    "rows bias": (ROWS,),
    "scale": (WIDTH,),
    "shift": (WIDTH,),
}
#: Numbers of each date, a pixel: x, its normalised value, queries, keys and values (or what is hidden, or the
#: projector's scores), whether it is missing, scores of some dates.
_X, _PLAIN, _MANY, _MISSING = WIDTH, WIDTH, 3 * WIDTH, 1


def _count(shape: tuple[int, ...], each: int) -> int:
    return shape[0] * shape[1] // each if len(shape) > 1 else shape[0]


def filled(target: Target, dates: int) -> int:
    """Dates that are computed."""
    return -(-dates // target.cols) * target.cols


def work(target: Target, dates: int) -> int:
    """Numbers of memory that a call needs."""
    factors = WIDTH // 2 if target.pairs else 0
    each = _X + _PLAIN + _MANY + _MISSING + target.cols + factors
    # Beside: features of a date.
    return (each * filled(target, dates) + WIDTH) * target.lanes


def written(target: Target) -> Emitter:
    """A module with the function ``encode``.

    ``encode(maps, ground, valid, encoding, weights, work, out, start, pixels, dates, mapped, width, line, plane,
    stride)``, arrays of float32:

    - maps: of the dates, each ``plane`` numbers after the one before, rows of ``line`` numbers, pixels of 32, with a
      border of one pixel; bits of bfloat16 if the target has pairs, two of them a number. Row by row, ``width`` in
      each, the pixels from ``start`` on are embedded, ``pixels`` of them.
    - ground (pixels, 64): features of a last date, which has no maps, if ``mapped`` is one less than ``dates``.
    - valid (pixels, dates); encoding (dates, 64).
    - weights: aligned to a vector: the kernel (3, 3, 32, 64) and the bias of the convolution, then as in LAYER and
      PROJECTOR, each matrix as (outputs / target.rows, inputs, target.rows); with pairs two inputs as one number.
    - work: aligned to a vector.
    - out (10, 64, stride), with a stride that is a multiple of the lanes and not less than pixels; what is beyond
      pixels means nothing.
    """
    return _Writer(target).module()


class _Writer(Convolution):
    def module(self) -> Emitter:
        """Everything."""
        functions = {
            "qk": self.product("qk", WIDTH, 2 * WIDTH, over="channels"),
            "v": self.product("v", WIDTH, WIDTH, over="dates"),
            "context": self.product("context", WIDTH, WIDTH, self.added),
            "first": self.product("first", WIDTH, HIDDEN, self.positive, over="channels"),
            "second": self.product("second", HIDDEN, WIDTH, self.residual),
            "rows": self.product("rows", WIDTH, ROWS),
            "norm": self.norm(),
            "scaled": self.scaled(),
            "attend": self.attend(),
            "project": self._project(),
            "fetch": self._fetch(),
        }
        self._encode(functions)
        return self.e

    def _project(self) -> Any:
        """f(out, plain, scores, missing, scale, shift, dates, stride): the embedding of the pixels, of what the
        projector's rows say of the dates (dates, 20)."""
        e, some, count = self.e, 5, 4
        function, (out, plain, scores, missing, scale, shift, dates, stride) = e.function("project", 6, 2)

        def some_rows(row: Any, _: Any) -> None:
            def of(date: Any, more: int) -> Any:
                return e.at(scores, self.vectors(e.sum(e.times(date, ROWS), row, more)))

            def hide(date: Any, largest: list[Any]) -> list[Any]:
                hidden = e.load(e.at(missing, self.vectors(date)))
                for more in range(some):
                    value = e.add(e.load(of(date, more)), hidden)
                    e.store(value, of(date, more))
                    largest[more] = e.larger(largest[more], value)
                return largest

            largest = e.loop(dates, 1, hide, [e.constant(LEAST)] * some)

            inverse = self.softmax(of, dates, largest)
            # Rows are those of one head after the other: each has its half of the channels.
            head = e.quotient(row, QUERIES)
            query = e.sum(row, e.times(head, -QUERIES))
            half = WIDTH // QUERY_HEADS

            def some_channels(first: Any, _: Any) -> None:
                channel = e.sum(first, e.times(head, half))

                def each_date(date: Any, sums: list[Any]) -> list[Any]:
                    shares = [e.load(of(date, more)) for more in range(some)]
                    for col in range(count):
                        value = e.load(e.at(plain, self.vectors(e.sum(e.times(date, WIDTH), channel, col))))
                        for more in range(some):
                            place = more * count + col
                            sums[place] = e.fused(shares[more], value, sums[place])
                    return sums

                sums = e.loop(dates, 1, each_date, [e.constant(0.0)] * (some * count))
                for more in range(some):
                    for col in range(count):
                        value = e.multiply(sums[more * count + col], inverse[more])
                        each = e.sum(channel, col)
                        value = e.fused(value, e.everywhere(e.at(scale, each)), e.everywhere(e.at(shift, each)))
                        band = e.sum(e.times(e.sum(query, more), WIDTH), each)
                        e.store(value, e.at(out, e.times(band, stride)), aligned=False)

            e.loop(e.index(half), count, some_channels)

        e.loop(e.index(ROWS), some, some_rows)
        e.end()
        return function

    # Pixels.

    def _fetch(self) -> Any:
        """f(x, missing, some, maps, ground, valid, encoding, kernel, bias, start, first, pixels, dates, mapped, filled,
        width, line, plane): features of the pixels from ``first`` on, those beyond the last one as it, with the
        encoding of their dates; and which dates are missing."""
        e = self.e
        function, given = e.function("fetch", 9, 9)
        x, missing, some, maps, ground, valid, encoding, kernel, bias = given[:9]
        start, first, pixels, dates, mapped, filled, width, line, plane = given[9:]
        last = e.sum(pixels, -1)
        ones = [e.least(e.sum(first, lane), last) for lane in range(self.lanes)]
        places = self.places([e.sum(start, one) for one in ones], width, line)

        def put(date: Any, source: Any, rows: Sequence[Any], aligned: bool) -> None:
            """Features that lie in (pixels, 64), with the encoding."""
            told = e.gather([e.at(valid, e.times(one, dates), date) for one in ones])
            score = e.multiply(e.subtract(told, e.constant(1.0)), e.constant(-POWERS * MISSING))
            e.store(score, e.at(missing, self.vectors(date)))

            def some_channels(channel: Any, _: Any) -> None:
                columns = e.transposed([e.load(e.at(source, row, channel), aligned) for row in rows])
                for more, column in enumerate(columns):
                    number = e.sum(e.times(date, WIDTH), channel, more)
                    e.store(e.add(column, e.everywhere(e.at(encoding, number))), e.at(x, self.vectors(number)))

            e.loop(e.index(WIDTH), self.lanes, some_channels)

        def each(date: Any, _: Any) -> None:
            self.convolve(some, e.at(maps, e.times(date, plane)), places, line, kernel, bias)
            put(date, some, [e.index(lane * WIDTH) for lane in range(self.lanes)], aligned=True)

        e.loop(mapped, 1, each)
        e.below(mapped, dates, lambda: put(mapped, ground, [e.times(one, WIDTH) for one in ones], aligned=False))

        def more_dates() -> None:
            def fill(more: Any, _: Any) -> None:
                date = e.sum(dates, more)
                e.store(e.constant(FILL), e.at(missing, self.vectors(date)))

                def nothing(channel: Any, _: Any) -> None:
                    e.store(e.constant(0.0), e.at(x, self.vectors(e.sum(e.times(date, WIDTH), channel))))

                e.loop(e.index(WIDTH), 1, nothing)

            e.loop(e.sum(filled, e.times(dates, -1)), 1, fill)

        e.below(dates, filled, more_dates)
        e.end()
        return function

    def _encode(self, do: dict[str, Any]) -> None:
        e, cols = self.e, self.cols
        _, given = e.function("encode", 7, 8, public=True)
        maps, ground, valid, encoding, weights, work, out = given[:7]
        start, pixels, dates, mapped, width, line, plane, stride = given[7:]
        filled = e.times(e.quotient(e.sum(dates, cols - 1), cols), cols)
        vectors = self.vectors(filled)
        x = work
        plain = e.at(x, e.times(vectors, _X))
        many = e.at(plain, e.times(vectors, _PLAIN))
        values = e.at(many, e.times(vectors, 2 * WIDTH))
        missing = e.at(many, e.times(vectors, _MANY))
        scores = e.at(missing, e.times(vectors, _MISSING))
        some = e.at(scores, e.times(vectors, cols))
        factors = e.at(some, self.vectors(WIDTH)) if self.each > 1 else plain

        def some_pixels(first: Any, _: Any) -> None:
            numbers = start, first, pixels, dates, mapped, filled, width, line, plane
            kernel, bias = weights, e.at(weights, KERNEL // self.each)
            e.call(do["fetch"], x, missing, some, maps, ground, valid, encoding, kernel, bias, *numbers)
            place = KERNEL // self.each + WIDTH
            for layer in range(LAYERS):
                at: dict[str, Any] = {}
                for name, shape in LAYER.items():
                    at[name] = e.at(weights, place)
                    place += _count(shape, self.each)
                none = at["qk bias"]
                e.call(do["norm"], plain, factors, x, filled)
                e.call(do["qk"], many, factors, at["qk"], at["qk bias"], plain, none, filled)
                e.call(do["v"], values, factors, at["v"], at["v bias"], plain, none, filled)
                e.call(do["attend"], factors, many, values, missing, scores, filled)
                e.call(do["context"], x, factors, at["context"], at["context bias"], plain, none, filled)
                e.call(do["norm"], plain, factors, x, filled)
                e.call(do["first"], many, factors, at["first"], at["first bias"], plain, none, filled)
                e.call(do["second"], x, many, at["second"], at["second bias"], plain, at["norm scale"], filled)
                e.call(do["norm"], plain, factors, x, filled)
                if layer < LAYERS - 1:
                    e.call(do["scaled"], x, plain, at["norm2 scale"], at["norm2 shift"], filled)
            for name, shape in PROJECTOR.items():
                at[name] = e.at(weights, place)
                place += _count(shape, self.each)
            e.call(do["rows"], many, factors, at["rows"], at["rows bias"], plain, at["rows bias"], filled)
            to = e.at(out, first)
            e.call(do["project"], to, plain, many, missing, at["scale"], at["shift"], filled, stride)

        e.loop(pixels, self.lanes, some_pixels)
        e.end()
