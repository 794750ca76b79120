"""The temporal encoder of ``graphs.temporal_graph`` as a function of machine code, for any numbers of pixels and dates.

As many pixels as a vector has numbers go through all of it together. What is known of them lies in memory as
(dates, channels, pixels); dates are filled up to a multiple of what a product of matrices takes at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from malice_core.graphs import MISSING
from malice_core.kernel.emit import Emitter, Target
from malice_core.weights import EPSILON, HEADS, HIDDEN, LAYERS, QUERIES, QUERY_HEADS, WIDTH

DEPTH, ROWS = WIDTH // HEADS, QUERIES * QUERY_HEADS
#: Weights of a layer, and of the projector: name and shape; matrices are (inputs, outputs).
LAYER: dict[str, tuple[int, ...]] = {
    "qkv": (WIDTH, 3 * WIDTH),
    "qkv bias": (3 * WIDTH,),
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
#: Score of dates that are there to fill up: less than that of a missing one.
_FILL = 2 * MISSING


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def filled(target: Target, dates: int) -> int:
    """Dates that are computed."""
    return -(-dates // target.cols) * target.cols


def work(target: Target, dates: int) -> int:
    """Numbers of memory that a call needs."""
    return (_X + _PLAIN + _MANY + _MISSING + target.cols) * filled(target, dates) * target.lanes


def written(target: Target) -> Emitter:
    """A module with the function ``encode``.

    ``encode(features, valid, encoding, weights, work, out, pixels, dates, stride)``, all arrays float32: features
    (pixels, dates, 64), valid (pixels, dates), encoding (dates, 64), weights as in LAYER and PROJECTOR, each matrix as
    (outputs / target.rows, inputs, target.rows); work is aligned to a vector; out (10, 64, stride) with a stride that
    is a multiple of the lanes and not less than pixels; what is beyond pixels means nothing.
    """
    return _Writer(target).module()


class _Writer:
    def __init__(self, target: Target) -> None:
        self.e = Emitter(target)
        self.lanes, self.rows, self.cols = target.lanes, target.rows, target.cols

    def module(self) -> Emitter:
        """Everything."""
        add = self._product("add", WIDTH, WIDTH, self._added)
        functions = {
            "qkv": self._product("qkv", WIDTH, 3 * WIDTH),
            "context": add,
            "first": self._product("first", WIDTH, HIDDEN, self._positive),
            "second": self._product("second", HIDDEN, WIDTH, self._residual),
            "rows": self._product("rows", WIDTH, ROWS),
            "norm": self._norm(),
            "scaled": self._scaled(),
            "attend": self._attend(),
            "project": self._project(),
            "fetch": self._fetch(),
        }
        self._encode(functions)
        return self.e

    def _vectors(self, count: Any) -> Any:
        """Offset of so many vectors."""
        return self.e.times(count, self.lanes)

    # Products of matrices.

    def _product(self, name: str, inputs: int, outputs: int, finish: Callable[..., Any] | None = None) -> Any:
        """f(into, given, matrix, bias, plain, scale, dates): into (dates, outputs) = given (dates, inputs) · matrix +
        bias; ``finish`` makes of each vector what is stored."""
        e = self.e
        function, (into, given, matrix, bias, plain, scale, dates) = e.function(name, 6, 1)

        def some_dates(date: Any, _: Any) -> None:
            sources = [e.at(given, self._vectors(e.times(e.sum(date, col), inputs))) for col in range(self.cols)]

            def some_outputs(output: Any, _: Any) -> None:
                weights = e.at(matrix, e.times(output, inputs))

                def some_inputs(first: Any, sums: list[Any]) -> list[Any]:
                    for more in range(4):
                        each = e.sum(first, more)
                        values = [e.load(e.at(source, self._vectors(each))) for source in sources]
                        for row in range(self.rows):
                            factor = e.everywhere(e.at(weights, e.times(each, self.rows), row))
                            for col, value in enumerate(values):
                                place = row * self.cols + col
                                sums[place] = e.fused(value, factor, sums[place])
                    return sums

                begin = [e.everywhere(e.at(bias, output, row)) for row in range(self.rows) for _ in range(self.cols)]
                sums = e.loop(e.index(inputs), 4, some_inputs, begin)
                for row in range(self.rows):
                    for col in range(self.cols):
                        place = self._vectors(e.sum(e.times(e.sum(date, col), outputs), output, row))
                        value = sums[row * self.cols + col]
                        if finish is not None:
                            value = finish(value, e.at(into, place), e.at(plain, place), e.at(scale, output, row))
                        e.store(value, e.at(into, place))

            e.loop(e.index(outputs), self.rows, some_outputs)

        e.loop(dates, self.cols, some_dates)
        e.end()
        return function

    def _added(self, value: Any, into: Any, plain: Any, scale: Any) -> Any:
        return self.e.add(value, self.e.load(into))

    def _positive(self, value: Any, into: Any, plain: Any, scale: Any) -> Any:
        return self.e.larger(value, self.e.constant(0.0))

    def _residual(self, value: Any, into: Any, plain: Any, scale: Any) -> Any:
        return self.e.fused(self.e.load(plain), self.e.everywhere(scale), value)

    # Norms.

    def _norm(self) -> Any:
        """f(into, given, dates): LayerNorm without scale and shift."""
        e = self.e
        function, (into, given, dates) = e.function("norm", 2, 1)

        def over(source: Any, take: Callable[[Any, Any], Any]) -> Any:
            def body(channel: Any, sums: list[Any]) -> list[Any]:
                return [
                    take(e.load(e.at(source, self._vectors(e.sum(channel, more)))), sums[more]) for more in range(4)
                ]

            one, two, three, four = e.loop(e.index(WIDTH), 4, body, [e.constant(0.0)] * 4)
            return e.multiply(e.add(e.add(one, two), e.add(three, four)), e.constant(1 / WIDTH))

        def each(date: Any, _: Any) -> None:
            offset = self._vectors(e.times(date, WIDTH))
            source, target = e.at(given, offset), e.at(into, offset)
            mean = over(source, lambda value, total: e.add(value, total))

            def squared(value: Any, total: Any) -> Any:
                from_mean = e.subtract(value, mean)
                return e.fused(from_mean, from_mean, total)

            variance = over(source, squared)
            factor = e.divide(e.constant(1.0), e.root(e.add(variance, e.constant(EPSILON))))

            def normalise(channel: Any, _: Any) -> None:
                for more in range(4):
                    place = self._vectors(e.sum(channel, more))
                    value = e.multiply(e.subtract(e.load(e.at(source, place)), mean), factor)
                    e.store(value, e.at(target, place))

            e.loop(e.index(WIDTH), 4, normalise)

        e.loop(dates, 1, each)
        e.end()
        return function

    def _scaled(self) -> Any:
        """f(into, plain, scale, shift, dates)."""
        e = self.e
        function, (into, plain, scale, shift, dates) = e.function("scaled", 4, 1)

        def each(date: Any, _: Any) -> None:
            def body(channel: Any, _: Any) -> None:
                place = self._vectors(e.sum(e.times(date, WIDTH), channel))
                factor, added = e.everywhere(e.at(scale, channel)), e.everywhere(e.at(shift, channel))
                e.store(e.fused(e.load(e.at(plain, place)), factor, added), e.at(into, place))

            e.loop(e.index(WIDTH), 1, body)

        e.loop(dates, 1, each)
        e.end()
        return function

    # Attention.

    def _softmax(self, of: Callable[[Any, int], Any], dates: Any, largest: list[Any]) -> list[Any]:
        """Of scores with their largest ones: leaves exponentials; the inverses of their sums.

        Args:
            of: where the score of a date and row is.
        """
        e = self.e

        def body(date: Any, sums: list[Any]) -> list[Any]:
            for row, most in enumerate(largest):
                place = of(date, row)
                value = e.exponential(e.subtract(e.load(place), most))
                e.store(value, place)
                sums[row] = e.add(sums[row], value)
            return sums

        sums = e.loop(dates, 1, body, [e.constant(0.0)] * len(largest))
        return [e.divide(e.constant(1.0), total) for total in sums]

    def _attend(self) -> Any:
        """f(context, qkv, missing, scores, dates): context (dates, 64) of all heads."""
        e, cols = self.e, self.cols
        function, (context, qkv, missing, scores, dates) = e.function("attend", 4, 1)

        def of(date: Any, part: int, head: Any) -> Any:
            """Queries, keys or values of a date."""
            channel = e.sum(e.times(date, 3 * WIDTH), part * WIDTH, e.times(head, DEPTH))
            return e.at(qkv, self._vectors(channel))

        def score(key: Any, row: int) -> Any:
            return e.at(scores, self._vectors(e.sum(e.times(key, cols), row)))

        def each_head(head: Any, _: Any) -> None:
            def some_queries(query: Any, _: Any) -> None:
                queries = [of(e.sum(query, row), 0, head) for row in range(cols)]

                def some_keys(key: Any, largest: list[Any]) -> list[Any]:
                    keys = [of(e.sum(key, col), 1, head) for col in range(cols)]
                    hidden = [e.load(e.at(missing, self._vectors(e.sum(key, col)))) for col in range(cols)]
                    sums = [hidden[col] for _ in range(cols) for col in range(cols)]
                    for channel in range(DEPTH):
                        left = [e.load(e.at(each, self._vectors(channel))) for each in queries]
                        right = [e.load(e.at(each, self._vectors(channel))) for each in keys]
                        for row in range(cols):
                            for col in range(cols):
                                place = row * cols + col
                                sums[place] = e.fused(left[row], right[col], sums[place])
                    for row in range(cols):
                        for col in range(cols):
                            value = sums[row * cols + col]
                            e.store(value, score(e.sum(key, col), row))
                            largest[row] = e.larger(largest[row], value)
                    return largest

                largest = e.loop(dates, cols, some_keys, [e.constant(2 * _FILL)] * cols)
                inverse = self._softmax(score, dates, largest)

                def some_channels(channel: Any, _: Any) -> None:
                    def each_key(key: Any, sums: list[Any]) -> list[Any]:
                        shares = [e.load(score(key, row)) for row in range(cols)]
                        values = of(key, 2, head)
                        for more in range(4):
                            value = e.load(e.at(values, self._vectors(e.sum(channel, more))))
                            for row in range(cols):
                                place = row * 4 + more
                                sums[place] = e.fused(shares[row], value, sums[place])
                        return sums

                    sums = e.loop(dates, 1, each_key, [e.constant(0.0)] * (4 * cols))
                    for row in range(cols):
                        for more in range(4):
                            to = e.sum(e.times(e.sum(query, row), WIDTH), e.times(head, DEPTH), channel, more)
                            value = e.multiply(sums[row * 4 + more], inverse[row])
                            e.store(value, e.at(context, self._vectors(to)))

                e.loop(e.index(DEPTH), 4, some_channels)

            e.loop(dates, cols, some_queries)

        e.loop(e.index(HEADS), 1, each_head)
        e.end()
        return function

    def _project(self) -> Any:
        """f(out, plain, scores, missing, scale, shift, dates, stride): the embedding of the pixels, of what the
        projector's rows say of the dates (dates, 20)."""
        e, some, count = self.e, 5, 4
        function, (out, plain, scores, missing, scale, shift, dates, stride) = e.function("project", 6, 2)

        def some_rows(row: Any, _: Any) -> None:
            def of(date: Any, more: int) -> Any:
                return e.at(scores, self._vectors(e.sum(e.times(date, ROWS), row, more)))

            def hide(date: Any, largest: list[Any]) -> list[Any]:
                hidden = e.load(e.at(missing, self._vectors(date)))
                for more in range(some):
                    value = e.add(e.load(of(date, more)), hidden)
                    e.store(value, of(date, more))
                    largest[more] = e.larger(largest[more], value)
                return largest

            largest = e.loop(dates, 1, hide, [e.constant(2 * _FILL)] * some)

            inverse = self._softmax(of, dates, largest)
            # Rows are those of one head after the other: each has its half of the channels.
            head = e.quotient(row, QUERIES)
            query = e.sum(row, e.times(head, -QUERIES))
            half = WIDTH // QUERY_HEADS

            def some_channels(first: Any, _: Any) -> None:
                channel = e.sum(first, e.times(head, half))

                def each_date(date: Any, sums: list[Any]) -> list[Any]:
                    shares = [e.load(of(date, more)) for more in range(some)]
                    for col in range(count):
                        value = e.load(e.at(plain, self._vectors(e.sum(e.times(date, WIDTH), channel, col))))
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
        """f(x, missing, features, valid, encoding, first, pixels, dates, filled): features of the pixels from ``first``
        on, those beyond the last one as it, with the encoding of their dates; and which dates are missing."""
        e = self.e
        function, (x, missing, features, valid, encoding, first, pixels, dates, filled) = e.function("fetch", 5, 4)
        last = e.sum(pixels, -1)
        places = [e.times(e.least(e.sum(first, lane), last), dates) for lane in range(self.lanes)]

        def each(date: Any, _: Any) -> None:
            told = e.gather([e.at(valid, place, date) for place in places])
            score = e.multiply(e.subtract(told, e.constant(1.0)), e.constant(-MISSING))
            e.store(score, e.at(missing, self._vectors(date)))

            def some_channels(channel: Any, _: Any) -> None:
                given = [e.at(features, e.times(e.sum(place, date), WIDTH), channel) for place in places]
                columns = e.transposed([e.load(each, aligned=False) for each in given])
                for more, column in enumerate(columns):
                    number = e.sum(e.times(date, WIDTH), channel, more)
                    e.store(e.add(column, e.everywhere(e.at(encoding, number))), e.at(x, self._vectors(number)))

            e.loop(e.index(WIDTH), self.lanes, some_channels)

        e.loop(dates, 1, each)

        def more_dates() -> None:
            def fill(more: Any, _: Any) -> None:
                date = e.sum(dates, more)
                e.store(e.constant(_FILL), e.at(missing, self._vectors(date)))

                def nothing(channel: Any, _: Any) -> None:
                    e.store(e.constant(0.0), e.at(x, self._vectors(e.sum(e.times(date, WIDTH), channel))))

                e.loop(e.index(WIDTH), 1, nothing)

            e.loop(e.sum(filled, e.times(dates, -1)), 1, fill)

        e.below(dates, filled, more_dates)
        e.end()
        return function

    def _encode(self, do: dict[str, Any]) -> None:
        e, cols = self.e, self.cols
        _, given = e.function("encode", 6, 3, public=True)
        features, valid, encoding, weights, work, out, pixels, dates, stride = given
        filled = e.times(e.quotient(e.sum(dates, cols - 1), cols), cols)
        vectors = self._vectors(filled)
        x = work
        plain = e.at(x, e.times(vectors, _X))
        many = e.at(plain, e.times(vectors, _PLAIN))
        missing = e.at(many, e.times(vectors, _MANY))
        scores = e.at(missing, e.times(vectors, _MISSING))

        def some_pixels(first: Any, _: Any) -> None:
            e.call(do["fetch"], x, missing, features, valid, encoding, first, pixels, dates, filled)
            place = 0
            for layer in range(LAYERS):
                at: dict[str, Any] = {}
                for name, shape in LAYER.items():
                    at[name] = e.at(weights, place)
                    place += _count(shape)
                none = at["qkv bias"]
                e.call(do["norm"], plain, x, filled)
                e.call(do["qkv"], many, plain, at["qkv"], at["qkv bias"], plain, none, filled)
                e.call(do["attend"], plain, many, missing, scores, filled)
                e.call(do["context"], x, plain, at["context"], at["context bias"], plain, none, filled)
                e.call(do["norm"], plain, x, filled)
                e.call(do["first"], many, plain, at["first"], at["first bias"], plain, none, filled)
                e.call(do["second"], x, many, at["second"], at["second bias"], plain, at["norm scale"], filled)
                e.call(do["norm"], plain, x, filled)
                if layer < LAYERS - 1:
                    e.call(do["scaled"], x, plain, at["norm2 scale"], at["norm2 shift"], filled)
            for name, shape in PROJECTOR.items():
                at[name] = e.at(weights, place)
                place += _count(shape)
            e.call(do["rows"], many, plain, at["rows"], at["rows bias"], plain, at["rows bias"], filled)
            to = e.at(out, first)
            e.call(do["project"], to, plain, many, missing, at["scale"], at["shift"], filled, stride)

        e.loop(pixels, self.lanes, some_pixels)
        e.end()
