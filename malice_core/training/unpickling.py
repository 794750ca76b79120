"""Reads a pickle without running anything: plain containers and tensors come out, all else is inert.

A pickle is a program for a small stack machine, and in Python's own machine its instructions may import and call
anything. This one is written out here and has no such instruction: names are compared with the few of PyTorch's that
describe tensors, every other name stands for :data:`INERT`, and calling, building or filling that does nothing. So a
checkpoint whose hyper-parameters were pickled with classes nobody has here (omegaconf, their own) can be read, and a
crafted one cannot do harm: work and memory are bounded by its length.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

#: No count, offset or size of a real tensor is larger, and products of larger numbers would take their time.
LARGEST = 1 << 40
#: Instructions of the largest pickle that is read; a whole checkpoint of MALICE with its optimiser has about 60,000.
MAX_INSTRUCTIONS = 1_000_000


class Inert:
    """What a pickle names that is neither tensor nor plain container: whatever is done with it, nothing happens."""

    def __repr__(self) -> str:
        return "INERT"


INERT = Inert()


@dataclass(frozen=True)
class Storage:
    """Numbers in the archive: ``data/KEY``, ``count`` elements of a type named as in torch (``FloatStorage``)."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class Record:
    """A tensor as the pickle describes it, all in elements. Whether it lies inside its storage is not checked yet."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A global name: module and attribute."""

    module: str
    name: str


class Unreadable(ValueError):
    """The pickle is damaged or not one of the kind that is read."""


def loads(content: bytes) -> Any:
    """The object a pickle of ``torch.save`` describes.

    Args:
        content: the archive's ``data.pkl``.

    Returns:
        Numbers, text, bytes, tuples, lists, dicts (only items with text as key are kept; ordered ones are plain),
        :class:`Record` for tensors, and :data:`INERT` for everything else, sets included. Containers may hold
        themselves: do not walk through them without a bound.

    Raises:
        Unreadable: saying what is wrong.
    """
    machine = _Machine()
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(content)):
            if count >= MAX_INSTRUCTIONS:
                raise Unreadable(f"more than {MAX_INSTRUCTIONS} instructions")
            machine.step(instruction.name, argument)
        return machine.result()
    except Unreadable:
        raise
    except (ValueError, LookupError, TypeError, OverflowError, MemoryError) as error:
        raise Unreadable(f"{type(error).__name__}: {str(error)[:100]}") from error


#: Instructions whose argument is the value they push.
_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_FIXED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack machine; every instruction is bounded by its own length or by what it takes off the stack."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        # A dict, not a list: a pickle may write to position 4294967295 first.
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self.stack) != 1 or self.marks:
            raise Unreadable(f"{len(self.stack)} objects are left on the stack")
        return self.stack[0]

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Unreadable("an instruction finds no object")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise Unreadable("an instruction finds no mark")
        begin = self.marks.pop()
        items = self.stack[begin:]
        del self.stack[begin:]
        return items

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def step(self, name: str, argument: Any) -> None:
        """Carries out one instruction (the names are those of ``pickletools``)."""
        push = self.stack.append
        if name in _LITERALS:
            push(argument)
        elif name in _FIXED:
            push(_FIXED[name])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = self.top()
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.top()
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            push(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[name])]
            push(tuple(reversed(items)))
        elif name == "TUPLE":
            push(tuple(self.pop_to_mark()))
        elif name == "EMPTY_LIST":
            push([])
        elif name == "LIST":
            push(self.pop_to_mark())
        elif name == "EMPTY_DICT":
            push({})
        elif name == "DICT":
            items = self.pop_to_mark()
            push(_filled({}, items))
        elif name in ("APPEND", "APPENDS"):
            items = [self.pop()] if name == "APPEND" else self.pop_to_mark()
            target = self.top()
            if isinstance(target, list):
                target.extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self.pop_to_mark()
            _filled(self.top(), items)
        elif name == "GLOBAL":
            module, _, attribute = str(argument).partition(" ")
            push(_Name(module, attribute))
        elif name == "STACK_GLOBAL":
            attribute, module = self.pop(), self.pop()
            known = isinstance(module, str) and isinstance(attribute, str)
            push(_Name(module, attribute) if known else INERT)
        elif name == "REDUCE":
            arguments, function = self.pop(), self.pop()
            push(_called(function, arguments))
        elif name == "BINPERSID":
            push(_stored(self.pop()))
        elif name == "POP":
            # Python's machine lets it take a mark, too.
            if self.marks and self.marks[-1] == len(self.stack):
                self.marks.pop()
            else:
                self.pop()
        elif name == "POP_MARK":
            self.pop_to_mark()
        elif name == "DUP":
            push(self.top())
        elif name == "BUILD":
            self.pop()  # the state of an object: of an OrderedDict its attributes, of anything else nothing we keep
            self.top()
        else:
            self.make_inert(name)

    def make_inert(self, name: str) -> None:
        """Instructions that make or fill objects of classes, and sets: they take what they take, and push INERT."""
        if name in ("INST", "OBJ", "FROZENSET"):
            self.pop_to_mark()
        elif name == "NEWOBJ":
            self.pop(), self.pop()
        elif name == "NEWOBJ_EX":
            self.pop(), self.pop(), self.pop()
        elif name == "ADDITEMS":
            self.pop_to_mark()
            self.top()
            return
        elif name in ("PROTO", "FRAME", "STOP"):
            return
        elif name not in ("EMPTY_SET", "EXT1", "EXT2", "EXT4"):
            raise Unreadable(f"the instruction {name} is not known in checkpoints")
        self.stack.append(INERT)


def _filled(target: Any, items: list[Any]) -> Any:
    """Puts keys and values, in turn, into a dict; anything else stays as it is."""
    if len(items) % 2:
        raise Unreadable("a key without a value")
    if isinstance(target, dict):
        # Names are text. Other keys would have to be hashed, and a deeply nested one ends Python with it.
        target.update((key, value) for key, value in zip(items[::2], items[1::2], strict=True) if type(key) is str)
    return target


def _stored(identity: Any) -> Any:
    """What a persistent id stands for: in PyTorch's archives always ('storage', type, key, device, count)."""
    match identity:
        case ("storage", _Name(module="torch", name=kind), str(key), _, int(count)) if _sensible((count,)):
            return Storage(kind, key, count)
    return INERT


def _called(function: Any, arguments: Any) -> Any:
    """The result of a call: of a few functions of PyTorch that put tensors together, else INERT."""
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        return INERT
    match (function.module, function.name):
        case ("collections", "OrderedDict"):
            return {}
        case ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor"):
            return _tensor(arguments)
        case ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"):
            inner = arguments[0] if arguments else INERT
            return inner if isinstance(inner, Record) else INERT
        case ("torch._tensor", "_rebuild_from_type_v2"):
            # A tensor with attributes of its own: (function, type, arguments, state). Once, so it cannot nest.
            match arguments:
                case (_Name(module="torch._utils"), _, tuple(inner), _) if arguments[0].name.startswith("_rebuild_t"):
                    return _tensor(inner)
    return INERT


def _tensor(arguments: tuple[Any, ...]) -> Any:
    match arguments:
        case (Storage() as storage, int(offset), tuple(size), tuple(stride), *_):
            if len(size) == len(stride) <= 8 and _sensible((offset, *size, *stride)):
                return Record(storage, offset, size, stride)
            raise Unreadable(f"a tensor has no sensible shape, its {len(size)} sizes or its offset")
    return INERT


def _sensible(numbers: tuple[Any, ...]) -> bool:
    return all(type(number) is int and 0 <= number < LARGEST for number in numbers)
