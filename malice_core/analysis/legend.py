"""The classes of a raster: value, name and colour of each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from malice_core.classifier import Class, colour, one_line
from malice_core.errors import InputError

#: The value of pixels without a class.
NODATA = 0
#: Classes at most: more are numbers, or names of single fields.
MOST = 1000
#: Names in a message at most.
SHOWN = 10


@dataclass(frozen=True)
class Legend:
    """Classes in the order of their labels.

    Attributes:
        classes: values are 1 to 65535.
    """

    classes: tuple[Class, ...]

    @property
    def dtype(self) -> str:
        """Of a raster that holds the values."""
        return "uint8" if max(one.code for one in self.classes) <= 255 else "uint16"

    @property
    def codes(self) -> np.ndarray[Any, np.dtype[Any]]:
        """(classes,) values."""
        return np.array([one.code for one in self.classes], self.dtype)

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.classes]

    @property
    def colours(self) -> dict[int, tuple[int, int, int, int]]:
        """A raster's colour table."""
        return {NODATA: (0, 0, 0, 0)} | {one.code: (*one.rgb, 255) for one in self.classes}

    def tags(self) -> dict[str, str]:
        """As rasters of ``finetune predict`` have it."""
        table = {one.code: {"name": one.name, "colour": one.colour} for one in self.classes}
        return {"MALICE_CLASSES": json.dumps(table, ensure_ascii=False)}

    def plain(self) -> list[dict[str, Any]]:
        """As JSON has it."""
        return [{"code": one.code, "name": one.name, "colour": one.colour} for one in self.classes]

    @classmethod
    def read(cls, given: Any) -> Legend:
        """From :meth:`plain`.

        Raises:
            ValueError: if it is none.
        """
        classes = []
        for one in given if isinstance(given, list) else ():
            match one:
                case {"code": int(code), "name": str(name), "colour": str(tone)} if 0 < code < 1 << 16 and re.fullmatch(
                    r"#[0-9a-f]{6}", tone
                ):
                    classes.append(Class(code, one_line(name), tone))
                case _:
                    raise ValueError(f"class {one!r:.80} is not code (1 to 65535), name and colour (#rrggbb)")
        if len({one.code for one in classes}) != len(classes) or not classes:
            raise ValueError("its classes are none, or two have one value")
        return cls(tuple(classes))


def of_labels(labels: Sequence[int | str | None], source: object) -> tuple[Legend, list[int | None]]:
    """The classes of labels, and the number of each label's class, from 0.

    Labels of 1 to 65535 are the values of rasters, too; where there are others, or texts, classes are numbered from 1
    by their order.

    Args:
        labels: None where there is none.
        source: the file they are from.

    Raises:
        InputError: if there are too many classes, or one only.
    """
    present: list[Any] = sorted({one for one in labels if one is not None})
    if len(present) < 2:
        only = f"one class, {present[0]}" if present else "no class"
        raise InputError(f"{source} has {only}, two or more are needed: label places of each")
    if len(present) > MOST:
        raise InputError(f"{source} has {len(present)} different labels, more than {MOST}: is this the right --field?")
    direct = all(isinstance(one, int) and 0 < one < 1 << 16 for one in present)
    classes = tuple(
        Class(one if direct else number, f"{one}", colour(number - 1)) for number, one in enumerate(present, 1)
    )
    numbers: Mapping[Any, int] = {one: number for number, one in enumerate(present)}
    return Legend(classes), [None if one is None else numbers[one] for one in labels]


def listed(names: Sequence[str]) -> str:
    """Some names for a message, however many and long they are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"{name:.40}" for name in names[:SHOWN]) + more


def numbered(count: int, what: str = "cluster") -> Legend:
    """Classes 1 to ``count``."""
    return Legend(tuple(Class(one, f"{what} {one}", colour(one - 1)) for one in range(1, count + 1)))
