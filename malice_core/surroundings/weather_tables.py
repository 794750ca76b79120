"""Weather as a table: a CSV with one row a day, which holds for the whole area."""

from __future__ import annotations

import csv
import math
from datetime import date
from pathlib import Path

from malice_core.errors import InputError
from malice_core.surroundings.agera5 import Variable, plain, split_unit, variable_of
from malice_core.surroundings.weather_files import Entry, Found, day_of

_DATE_COLUMNS = ("date", "day", "time", "datetime", "timestamp", "obs_date", "date_utc")
_MISSING = ("", "na", "nan", "null", "none", "-")


def read_table(file: str) -> Found:
    """All of one table: a header, a column with the date (YYYY-MM-DD or YYYYMMDD), a column a variable.

    Separated by commas, semicolons (then a comma may be the decimal sign) or tabs. Empty cells are missing.

    Raises:
        InputError: naming the file, the line and the value that cannot be used.
    """
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as source:
            first = source.readline()
            separator = max(",;\t", key=first.count)
            source.seek(0)
            rows = list(csv.reader(source, delimiter=separator))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as a table: {error}; save it as CSV in UTF-8") from error
    lines = [(number, row) for number, row in enumerate(rows, 1) if any(cell.strip() for cell in row)]
    if not lines:
        raise InputError(f"{file}: is empty; write a header and one row a day")
    (top, header), body = lines[0], lines[1:]
    columns = [split_unit(text) for text in header]
    names = [name for name, _ in columns]
    dates = [i for i, name in enumerate(names) if plain(name) in _DATE_COLUMNS]
    if len(dates) != 1:
        found = "no column" if not dates else f"{len(dates)} columns"
        raise InputError(
            f"{file}: {found} with the date; call one column 'date' (YYYY-MM-DD); found: {', '.join(names):.200}"
        )
    wanted = _columns(names, file)
    if wanted and not body:
        raise InputError(f"{file}: has a header in line {top} and no row; write one row a day")
    entries: list[tuple[date, str, Entry]] = []
    before: tuple[int, date] | None = None
    for number, row in body:
        if len(row) != len(header):
            raise InputError(f"{file}: line {number} has {len(row)} values, its header {len(header)}; correct the line")
        day = _day(row[dates[0]], file, number)
        if before is not None and day <= before[1]:
            what = "is there twice" if day == before[1] else f"comes after {before[1]}"
            raise InputError(
                f"{file}: {day} in line {number} {what} (line {before[0]}); sort the rows by date, one row a day"
            )
        before = number, day
        for at, variable in wanted.items():
            value = _number(row[at], separator, file, number, names[at])
            if value is not None:
                entries.append((day, variable.key, Entry(file, value, unit=columns[at][1])))
    for at, variable in wanted.items():
        if not any(key == variable.key for _, key, _ in entries):
            raise InputError(f"{file}: the column '{names[at]}' has no value in any row; fill it in")
    return Found("a table, which holds for the whole area", tuple(entries), tuple(names))


def _columns(names: list[str], file: str) -> dict[int, Variable]:
    wanted: dict[int, Variable] = {}
    for i, name in enumerate(names):
        variable = variable_of(name)
        if variable is None:
            continue
        for j, other in wanted.items():
            if other is variable:
                raise InputError(
                    f"{file}: the columns '{names[j]}' and '{name}' are both {variable.title}; leave one out"
                )
        wanted[i] = variable
    return wanted


def _day(text: str, file: str, number: int) -> date:
    text = text.strip()
    # Without a time of day, whose digits could be taken for a date.
    day = day_of(text[:10].replace("/", "-"), f"{file}: line {number}")
    if day is None:
        raise InputError(f"{file}: '{text:.40}' in line {number} is no date; write YYYY-MM-DD")
    return day


def _number(text: str, separator: str, file: str, number: int, name: str) -> float | None:
    text = text.strip()
    if text.lower() in _MISSING:
        return None
    try:
        value = float(text.replace(",", ".") if separator == ";" else text)
    except ValueError as error:
        raise InputError(
            f"{file}: '{text:.40}' in line {number}, column '{name}', is no number; correct it, or leave the cell empty"
        ) from error
    if not math.isfinite(value):
        raise InputError(f"{file}: '{text:.40}' in line {number}, column '{name}', is not finite; leave the cell empty")
    return value
