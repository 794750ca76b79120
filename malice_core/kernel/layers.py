"""Parts of a transformer as functions of machine code, over (dates, channels, pixels).

Factors of products of matrices are float32 or, where the target has pairs, two bfloat16 in the place of one number:
two channels of a date, or two dates of a channel, whichever the product sums over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from malice_core.graphs import MISSING
from malice_core.kernel.emit import Emitter, Target
from malice_core.weights import EPSILON, HEADS, WIDTH

DEPTH = WIDTH // HEADS
#: Scores are multiplied by this, so that powers are those of two.
POWERS = math.log2(math.e)
#: Score of dates that are there to fill up: less than that of a missing one.
FILL = 2 * POWERS * MISSING
#: Where no score is.
LEAST = 2 * FILL


class Layers:
    """Writes the functions of one module.

    Attributes:
        e: the module.
        each: factors of products in a number.
    """

    def __init__(self, target: Target) -> None:
        self.e = Emitter(target)
        self.lanes, self.rows, self.cols = target.lanes, target.rows, target.cols
        self.each = 2 if target.pairs else 1

    def vectors(self, count: Any) -> Any:
        """Offset of so many vectors."""
        return self.e.times(count, self.lanes)

    # Products of matrices.

    def store(self, into: Any, first: Any, values: Sequence[Any]) -> None:
        """Vectors one after the other, from the place of ``first`` on."""
        for more, value in enumerate(values):
            self.e.store(value, self.e.at(into, self.vectors(self.e.sum(first, more))))

    def factors(self, values: Sequence[Any]) -> list[Any]:
        """Vectors that a product sums over, as it takes them."""
        if self.each == 1:
            return list(values)
        return [self.e.pair(*values[more : more + 2]) for more in range(0, len(values), 2)]

    def keep(self, into: Any, first: Any, values: Sequence[Any]) -> None:
        """As ``store``, as factors."""
        self.store(into, self.e.quotient(first, self.each), self.factors(values))

    def times(self, one: Any, other: Any, added: Any) -> Any:
        """Factors, one number or two of each."""
        return (self.e.dot if self.each == 2 else self.e.fused)(one, other, added)

    def product(
        self, name: str, inputs: int, outputs: int, finish: Callable[..., Any] | None = None, over: str = ""
    ) -> Any:
        """f(into, given, matrix, bias, plain, scale, dates): into (dates, outputs) = given (dates, inputs) · matrix +
        bias; ``finish`` makes of each vector what is stored.

        Args:
            over: ``channels`` or ``dates``: stored are factors of a product that sums over these, in another place than
                ``finish`` is told; of dates, some with all channels after the others.
        """
        assert not over or finish in (None, self.positive)
        e, inputs = self.e, inputs // self.each
        function, (into, given, matrix, bias, plain, scale, dates) = e.function(name, 6, 1)

        def some_dates(date: Any, _: Any) -> None:
            sources = [e.at(given, self.vectors(e.times(e.sum(date, col), inputs))) for col in range(self.cols)]

            def some_outputs(output: Any, _: Any) -> None:
                weights = e.at(matrix, e.times(output, inputs))

                def some_inputs(first: Any, sums: list[Any]) -> list[Any]:
                    for more in range(4):
                        each = e.sum(first, more)
                        values = [e.load(e.at(source, self.vectors(each))) for source in sources]
                        for row in range(self.rows):
                            factor = e.everywhere(e.at(weights, e.times(each, self.rows), row))
                            for col, value in enumerate(values):
                                place = row * self.cols + col
                                sums[place] = self.times(value, factor, sums[place])
                    return sums

                begin = [e.everywhere(e.at(bias, output, row)) for row in range(self.rows) for _ in range(self.cols)]
                sums = e.loop(e.index(inputs), 4, some_inputs, begin)
                if over == "dates":
                    assert finish is None
                    columns = [self.factors(sums[self.cols * row :][: self.cols]) for row in range(self.rows)]
                    for more, some in enumerate(zip(*columns, strict=True)):
                        place = e.times(e.sum(e.quotient(date, self.each), more), outputs)
                        self.store(into, e.sum(place, output), some)
                    return
                for col in range(self.cols):
                    found = sums[col :: self.cols]
                    first = e.sum(e.times(e.sum(date, col), outputs), output)
                    if finish is not None:
                        places = [self.vectors(e.sum(first, row)) for row in range(self.rows)]
                        found = [
                            finish(value, e.at(into, place), e.at(plain, place), e.at(scale, output, row))
                            for row, (value, place) in enumerate(zip(found, places, strict=True))
                        ]
                    (self.keep if over else self.store)(into, first, found)

            e.loop(e.index(outputs), self.rows, some_outputs)

        e.loop(dates, self.cols, some_dates)
        e.end()
        return function

    def added(self, value: Any, into: Any, plain: Any, scale: Any) -> Any:
        return self.e.add(value, self.e.load(into))

    def positive(self, value: Any, into: Any, plain: Any, scale: Any) -> Any:
        return self.e.larger(value, self.e.constant(0.0))

    def residual(self, value: Any, into: Any, plain: Any, scale: Any) -> Any:
        return self.e.fused(self.e.load(plain), self.e.everywhere(scale), value)

    # Norms.

    def norm(self) -> Any:
        """f(into, factors, given, dates): LayerNorm without scale and shift; ``factors`` is ``into`` itself if they are
        the same."""
        e = self.e
        function, (into, factors, given, dates) = e.function("norm", 3, 1)

        def over(source: Any, take: Callable[[Any, Any], Any]) -> Any:
            def body(channel: Any, sums: list[Any]) -> list[Any]:
                return [take(e.load(e.at(source, self.vectors(e.sum(channel, more)))), sums[more]) for more in range(4)]

            one, two, three, four = e.loop(e.index(WIDTH), 4, body, [e.constant(0.0)] * 4)
            return e.multiply(e.add(e.add(one, two), e.add(three, four)), e.constant(1 / WIDTH))

        def each(date: Any, _: Any) -> None:
            offset = self.vectors(e.times(date, WIDTH))
            source, target = e.at(given, offset), e.at(into, offset)
            mean = over(source, lambda value, total: e.add(value, total))

            def squared(value: Any, total: Any) -> Any:
                from_mean = e.subtract(value, mean)
                return e.fused(from_mean, from_mean, total)

            variance = over(source, squared)
            factor = e.divide(e.constant(1.0), e.root(e.add(variance, e.constant(EPSILON))))

            def normalise(channel: Any, _: Any) -> None:
                values = [e.load(e.at(source, self.vectors(e.sum(channel, more)))) for more in range(4)]
                values = [e.multiply(e.subtract(value, mean), factor) for value in values]
                self.store(target, channel, values)
                if self.each > 1:
                    self.keep(factors, e.sum(e.times(date, WIDTH), channel), values)

            e.loop(e.index(WIDTH), 4, normalise)

        e.loop(dates, 1, each)
        e.end()
        return function

    def scaled(self) -> Any:
        """f(into, plain, scale, shift, dates)."""
        e = self.e
        function, (into, plain, scale, shift, dates) = e.function("scaled", 4, 1)

        def each(date: Any, _: Any) -> None:
            def body(channel: Any, _: Any) -> None:
                place = self.vectors(e.sum(e.times(date, WIDTH), channel))
                factor, added = e.everywhere(e.at(scale, channel)), e.everywhere(e.at(shift, channel))
                e.store(e.fused(e.load(e.at(plain, place)), factor, added), e.at(into, place))

            e.loop(e.index(WIDTH), 1, body)

        e.loop(dates, 1, each)
        e.end()
        return function

    # Attention.

    def softmax(self, of: Callable[[Any, int], Any], dates: Any, largest: list[Any], over: bool = False) -> list[Any]:
        """Of scores (in powers of two) with their largest ones: leaves what they are powers of; the inverses of their
        sums.

        Args:
            of: where the score of a date and row is.
            over: left are factors of a product over dates.
        """
        e, count = self.e, self.each if over else 1

        def body(date: Any, sums: list[Any]) -> list[Any]:
            for row, most in enumerate(largest):
                places = [of(e.sum(date, more), row) for more in range(count)]
                values = [e.power(e.subtract(e.load(place), most), exact=count == 1) for place in places]
                for value in values:
                    sums[row] = e.add(sums[row], value)
                # Some dates have the place of one, which was read before.
                e.store(self.factors(values)[0] if over else values[0], of(e.quotient(date, count), row))
            return sums

        sums = e.loop(dates, count, body, [e.constant(0.0)] * len(largest))
        return [e.divide(e.constant(1.0), total) for total in sums]

    def attend(self) -> Any:
        """f(context, asked, values, missing, scores, dates): context (dates, 64) of all heads; of queries and keys
        (dates, 128) and values (dates, 64)."""
        e, cols, depth = self.e, self.cols, DEPTH // self.each
        function, (context, asked, told, missing, scores, dates) = e.function("attend", 5, 1)

        def of(date: Any, part: int, head: Any) -> Any:
            """Queries or keys of a date."""
            channel = e.sum(e.times(date, 2 * WIDTH), part * WIDTH, e.times(head, DEPTH))
            return e.at(asked, self.vectors(e.quotient(channel, self.each)))

        def score(key: Any, row: int) -> Any:
            return e.at(scores, self.vectors(e.sum(e.times(key, cols), row)))

        def each_head(head: Any, _: Any) -> None:
            def some_queries(query: Any, _: Any) -> None:
                queries = [of(e.sum(query, row), 0, head) for row in range(cols)]

                def some_keys(key: Any, largest: list[Any]) -> list[Any]:
                    keys = [of(e.sum(key, col), 1, head) for col in range(cols)]
                    hidden = [e.load(e.at(missing, self.vectors(e.sum(key, col)))) for col in range(cols)]
                    sums = [hidden[col] for _ in range(cols) for col in range(cols)]
                    for channel in range(depth):
                        left = [e.load(e.at(each, self.vectors(channel))) for each in queries]
                        right = [e.load(e.at(each, self.vectors(channel))) for each in keys]
                        for row in range(cols):
                            for col in range(cols):
                                place = row * cols + col
                                sums[place] = self.times(left[row], right[col], sums[place])
                    for row in range(cols):
                        for col in range(cols):
                            value = sums[row * cols + col]
                            e.store(value, score(e.sum(key, col), row))
                            largest[row] = e.larger(largest[row], value)
                    return largest

                largest = e.loop(dates, cols, some_keys, [e.constant(LEAST)] * cols)
                inverse = self.softmax(score, dates, largest, over=True)

                def some_channels(channel: Any, _: Any) -> None:
                    def each_key(key: Any, sums: list[Any]) -> list[Any]:
                        shares = [e.load(score(key, row)) for row in range(cols)]
                        values = e.at(told, self.vectors(e.sum(e.times(key, WIDTH), e.times(head, DEPTH), channel)))
                        for more in range(4):
                            value = e.load(e.at(values, self.vectors(more)))
                            for row in range(cols):
                                place = row * 4 + more
                                sums[place] = self.times(shares[row], value, sums[place])
                        return sums

                    keys = e.quotient(dates, self.each)
                    sums = e.loop(keys, 1, each_key, [e.constant(0.0)] * (4 * cols))
                    for row in range(cols):
                        found = [e.multiply(value, inverse[row]) for value in sums[4 * row : 4 * row + 4]]
                        to = e.sum(e.times(e.sum(query, row), WIDTH), e.times(head, DEPTH), channel)
                        self.keep(context, to, found)

                e.loop(e.index(DEPTH), 4, some_channels)

            e.loop(dates, cols, some_queries)

        e.loop(e.index(HEADS), 1, each_head)
        e.end()
        return function
