"""Loops, vectors and their arithmetic as LLVM's intermediate representation, and machine code from it.

All arrays are of float32, or of pairs of bfloat16 in the place of one, and have the pixels of one vector last, so that
nothing is ever done across a vector.
"""

from __future__ import annotations

import functools
import platform
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

FLOAT, INDEX, INT = ir.FloatType(), ir.IntType(64), ir.IntType(32)
POINTER = FLOAT.as_pointer()
#: 2^x on -½ … ½ is 1 + x times these, the highest power first: of interpolation in Chebyshev's points.
POWER = (1.5453163e-4, 1.3390863e-3, 9.6180830e-3, 5.5503570e-2, 2.4022651e-1, 6.9314718e-1)
SHORT = (5.5754650e-2, 2.4203533e-1, 6.9314718e-1)
#: LLVM is told of processors once, and compiles one module at a time.
_lock = threading.Lock()
_ready = False


@dataclass(frozen=True)
class Target:
    """What the processor has.

    Attributes:
        lanes: float32 numbers of a vector.
        rows, cols: of vectors that a product of matrices keeps in registers: outputs, and dates.
        features: as LLVM names them.
        pairs: factors of products are bfloat16, two of them a number; sums are float32 all the same.
    """

    lanes: int
    rows: int
    cols: int
    cpu: str
    features: str
    pairs: bool = False


@functools.cache
def host(widest: int = 16, pairs: bool = False) -> Target | None:
    """This machine's processor; None if it cannot multiply and add at once (before 2013), or not in pairs.

    Args:
        widest: vectors of at most as many numbers.
        pairs: products of bfloat16: AVX-512 has them since 2020.
    """
    _begin()
    features = llvm.get_host_cpu_features()
    text, cpu = features.flatten(), llvm.get_host_cpu_name()
    # LLVM does not look at the features of every system; all of these have it.
    neon = platform.machine().lower() in ("arm64", "aarch64")
    if not neon and not (features.get("avx2") and features.get("fma")):
        return None
    if pairs and not (features.get("avx512f") and features.get("avx512bf16") and widest >= 16):
        return None
    if features.get("avx512f") and widest >= 16:
        # Some are told by LLVM to use half of their registers' width.
        return Target(16, 4, 4, cpu, text + ",-prefer-256-bit", pairs)
    if features.get("avx2") and widest >= 8:
        # 16 registers.
        return Target(8, 4, 2, cpu, text)
    return Target(4, 4, 4 if neon else 2, cpu, text)


def _begin() -> None:
    global _ready
    with _lock:
        if not _ready:
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
            _ready = True


class Emitter:
    """Writes one module, function by function."""

    def __init__(self, target: Target) -> None:
        self.target, self.lanes = target, target.lanes
        self.vector = ir.VectorType(FLOAT, self.lanes)
        self._whole = ir.VectorType(INT, self.lanes)
        self.module = ir.Module("malice")
        self.module.triple = llvm.get_default_triple()
        self._builder: Any = None
        self._function: Any = None

    # Functions and loops.

    def function(self, name: str, pointers: int, counts: int, public: bool = False) -> tuple[Any, list[Any]]:
        """Begins a function of pointers to numbers and counts; what is emitted next goes into it."""
        kind = ir.FunctionType(ir.VoidType(), [POINTER] * pointers + [INDEX] * counts)
        function = ir.Function(self.module, kind, name)
        function.attributes.add("nounwind")
        if not public:
            function.linkage = "internal"
            function.attributes.add("noinline")
        self._function = function
        self._builder = ir.IRBuilder(function.append_basic_block("begin"))
        return function, list(function.args)

    def end(self) -> None:
        """Ends the function."""
        self._builder.ret_void()

    def call(self, function: Any, *given: Any) -> None:
        self._builder.call(function, given)

    def loop(
        self, stop: Any, step: int, body: Callable[[Any, list[Any]], Sequence[Any] | None], carried: Sequence[Any] = ()
    ) -> list[Any]:
        """``for i in range(0, stop, step)``, at least once; ``body(i, values)`` returns the values of the next turn."""
        b, before = self._builder, self._builder.block
        inside, after = self._function.append_basic_block("loop"), self._function.append_basic_block("after")
        b.branch(inside)
        b.position_at_end(inside)
        counter, values = b.phi(INDEX), [b.phi(value.type) for value in carried]
        result = list(body(counter, list(values)) or [])
        following, last = b.add(counter, self.index(step)), b.block
        counter.add_incoming(self.index(0), before)
        counter.add_incoming(following, last)
        for value, first, new in zip(values, carried, result, strict=True):
            value.add_incoming(first, before)
            value.add_incoming(new, last)
        b.cbranch(b.icmp_signed("<", following, stop), inside, after)
        b.position_at_end(after)
        return result

    # Places.

    def index(self, value: int | Any) -> Any:
        return ir.Constant(INDEX, value) if isinstance(value, int) else value

    def sum(self, *terms: Any) -> Any:
        """Of counts; numbers and values."""
        total = self.index(terms[0])
        for term in terms[1:]:
            total = self._builder.add(total, self.index(term))
        return total

    def times(self, count: Any, factor: Any) -> Any:
        return self._builder.mul(self.index(count), self.index(factor))

    def quotient(self, count: Any, divisor: Any) -> Any:
        return count if isinstance(divisor, int) and divisor == 1 else self._builder.udiv(count, self.index(divisor))

    def least(self, one: Any, other: Any) -> Any:
        b = self._builder
        return b.select(b.icmp_signed("<", one, other), one, other)

    def at(self, pointer: Any, *offset: Any) -> Any:
        """The place so many numbers further."""
        return self._builder.gep(pointer, [self.sum(*offset)])

    def below(self, one: Any, other: Any, then: Callable[[], None]) -> None:
        """Does something if one count is less than another."""
        with self._builder.if_then(self._builder.icmp_signed("<", one, other)):
            then()

    # Numbers.

    def load(self, pointer: Any, aligned: bool = True) -> Any:
        b = self._builder
        return b.load(b.bitcast(pointer, self.vector.as_pointer()), align=4 * self.lanes if aligned else 4)

    def store(self, value: Any, pointer: Any, aligned: bool = True) -> None:
        b = self._builder
        b.store(value, b.bitcast(pointer, self.vector.as_pointer()), align=4 * self.lanes if aligned else 4)

    def everywhere(self, pointer: Any) -> Any:
        """One number in the whole vector."""
        return self._spread(self._builder.load(pointer), self.vector)

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [float(value)] * self.lanes)

    def gather(self, pointers: Sequence[Any]) -> Any:
        """A number from each place."""
        b, value = self._builder, ir.Constant(self.vector, ir.Undefined)
        for lane, pointer in enumerate(pointers):
            value = b.insert_element(value, b.load(pointer), ir.Constant(INT, lane))
        return value

    def add(self, one: Any, other: Any) -> Any:
        return self._builder.fadd(one, other)

    def subtract(self, one: Any, other: Any) -> Any:
        return self._builder.fsub(one, other)

    def multiply(self, one: Any, other: Any) -> Any:
        return self._builder.fmul(one, other)

    def divide(self, one: Any, other: Any) -> Any:
        return self._builder.fdiv(one, other)

    def fused(self, one: Any, other: Any, added: Any) -> Any:
        """one · other + added, rounded once."""
        return self._intrinsic("fma", one, other, added)

    def pair(self, one: Any, other: Any) -> Any:
        """Two vectors, rounded to bfloat16, as one: each number's first half is of ``one``."""
        b, count = self._builder, 2 * self.lanes
        halves = ir.VectorType(ir.IntType(16), count)
        # This and the next with types from before LLVM knew bfloat16, which it replaces.
        both = self._known(f"x86.avx512bf16.cvtne2ps2bf16.{16 * count}", halves, one.type, one.type)
        rounded = b.call(both, [other, one])
        order = [place for lane in range(self.lanes) for place in (lane, self.lanes + lane)]
        order = ir.Constant(ir.VectorType(INT, count), order)
        return b.bitcast(b.shuffle_vector(rounded, rounded, order), self.vector)

    def dot(self, one: Any, other: Any, added: Any) -> Any:
        """Sums of two products of pairs, added."""
        b = self._builder
        name = f"x86.avx512bf16.dpbf16ps.{32 * self.lanes}"
        known = self._known(name, self.vector, self.vector, self._whole, self._whole)
        return b.call(known, [added, b.bitcast(one, self._whole), b.bitcast(other, self._whole)])

    def root(self, value: Any) -> Any:
        return self._intrinsic("sqrt", value)

    def larger(self, one: Any, other: Any) -> Any:
        b = self._builder
        return b.select(b.fcmp_ordered(">", one, other), one, other)

    def power(self, x: Any, exact: bool = True) -> Any:
        """Two to the x of numbers of at most 0, exactly 0 below -125; relative error below 1e-7, or 3e-4."""
        b = self._builder
        # Numbers of this size have no fractions, and their last bits count.
        large = self.constant(1.5 * 2**23)
        whole = self.add(x, large)
        rest = self.subtract(x, self.subtract(whole, large))
        first, *others = POWER if exact else SHORT
        value = self.constant(first)
        for factor in (*others, 1.0):
            value = self.fused(value, rest, self.constant(factor))
        bits = b.shl(b.bitcast(whole, self._whole), ir.Constant(self._whole, [23] * self.lanes))
        value = b.bitcast(b.add(b.bitcast(value, self._whole), bits), self.vector)
        return b.select(b.fcmp_ordered("<", x, self.constant(-125.0)), self.constant(0.0), value)

    def transposed(self, rows: list[Any]) -> list[Any]:
        """As many vectors as each has numbers: the first numbers of all, the second …"""
        half = self.lanes // 2
        low = [number for i in range(half) for number in (i, self.lanes + i)]
        high = [number + half for number in low]
        while half:
            # Interleaving each vector with the one half of them further is a perfect shuffle of all numbers' places:
            # log2(lanes) of these swap rows and columns.
            rows = [
                self._shuffled(rows[i], rows[i + self.lanes // 2], order)
                for i in range(self.lanes // 2)
                for order in (low, high)
            ]
            half //= 2
        return rows

    def _shuffled(self, one: Any, other: Any, order: list[int]) -> Any:
        return self._builder.shuffle_vector(one, other, ir.Constant(self._whole, order))

    def _spread(self, scalar: Any, kind: Any) -> Any:
        nothing = ir.Constant(kind, ir.Undefined)
        first = self._builder.insert_element(nothing, scalar, ir.Constant(INT, 0))
        return self._builder.shuffle_vector(first, nothing, ir.Constant(self._whole, [0] * self.lanes))

    def _intrinsic(self, name: str, *given: Any) -> Any:
        function = self._known(f"{name}.v{self.lanes}f32", *[self.vector] * (1 + len(given)))
        return self._builder.call(function, given)

    def _known(self, name: str, result: Any, *given: Any) -> Any:
        """A function that LLVM itself has."""
        full = f"llvm.{name}"
        return self.module.globals.get(full) or ir.Function(self.module, ir.FunctionType(result, given), full)


class Code:
    """Machine code of a module; its functions are gone when it is."""

    def __init__(self, emitter: Emitter) -> None:
        with _lock:
            target = emitter.target
            machine = llvm.Target.from_default_triple().create_target_machine(
                cpu=target.cpu, features=target.features, opt=3
            )
            module = llvm.parse_assembly(str(emitter.module))
            module.verify()
            # What can be a vector is one.
            options = llvm.create_pipeline_tuning_options(speed_level=2)
            options.loop_vectorization = options.slp_vectorization = False
            passes = llvm.create_pass_builder(machine, options)
            passes.getModulePassManager().run(module, passes)
            self._engine = llvm.create_mcjit_compiler(module, machine)
            self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Where a function is."""
        return int(self._engine.get_function_address(name))
