"""Keeps the translations of the plugin, ``malice_qgis/i18n/malice_qgis_LANGUAGE.ts``, at its texts.

    translate.py            puts the texts of malice_qgis into every .ts: new ones without a translation, gone ones out
    translate.py --check    changes nothing; 1 if a .ts is behind, lacks a translation, or has one that does not fit

Texts are the literal arguments of ``tr()`` and ``marked()`` (``malice_qgis/texts.py``). A .ts is edited by hand or in
Qt Linguist, and made a .qm by ``tools/translations.sh`` when the plugin is deployed or packaged. (PyQt's pylupdate
would need Qt here, and writes line numbers, so that every change of the code is one of the .ts.)
"""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from string import Formatter
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "malice_qgis"
#: What ``malice_qgis/texts.py`` tells Qt.
CONTEXT = "MALICE"
#: Functions whose literal argument is a text for users.
MARKS = ("tr", "marked")


class TextError(Exception):
    """A text that cannot be translated as it stands; the message is one line."""


def texts(folder: Path = PLUGIN) -> dict[str, str]:
    """The texts of all modules, in order, with the module (relative to ``folder``) that has them first.

    Raises:
        TextError: if a text is put together before it is translated, so that no translation would be found.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
            if not isinstance(call.func, ast.Name) or call.func.id not in MARKS:
                continue
            (text,) = call.args
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found.setdefault(text.value, name)
            elif call.func.id == "marked" or not isinstance(text, (ast.Name, ast.Attribute, ast.Subscript)):
                raise TextError(
                    f"{name}:{call.lineno}: {call.func.id}() wants a literal text: put values in by format()"
                )
    return found


def read(path: Path) -> dict[str, str]:
    """Translations of a .ts by text, "" for those without."""
    messages = ET.parse(path).getroot().iter("message")
    return {message.findtext("source") or "": message.findtext("translation") or "" for message in messages}


def written(language: str, sources: dict[str, str], translations: dict[str, str]) -> str:
    """A .ts with the texts of ``sources``; those without a translation are marked as unfinished."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<!DOCTYPE TS>"]
    lines += [f'<TS version="2.1" language="{language}" sourcelanguage="en">', "<context>"]
    lines.append(f"    <name>{CONTEXT}</name>")
    for source, module in sources.items():
        told = translations.get(source, "")
        lines += ["    <message>", f'        <location filename="../{module}"/>']
        lines.append(f"        <source>{escape(source)}</source>")
        unfinished = "" if told else ' type="unfinished"'
        lines += [f"        <translation{unfinished}>{escape(told)}</translation>", "    </message>"]
    return "\n".join([*lines, "</context>", "</TS>", ""])


def misfit(source: str, told: str) -> str:
    """What is wrong with a translation, "" if nothing is: values and HTML tags must be the text's own."""
    if not told:
        return "no translation"
    if sorted(_values(source)) != sorted(_values(told)):
        return f"values {_values(told)} in place of {_values(source)}"
    if re.findall(r"</?\w+>", source) != re.findall(r"</?\w+>", told):
        return "other HTML tags"
    if (source[:1] == " ", source[-1:] == " ") != (told[:1] == " ", told[-1:] == " "):
        return "another blank at an end"
    return ""


def _values(text: str) -> list[str]:
    """Placeholders of ``str.format``, with the formats of numbers."""
    try:
        parts = [(name, form) for _, name, form, _ in Formatter().parse(text) if name is not None]
    except ValueError:
        return ["not a format"]
    return [f"{{{name}:{form}}}" if form else f"{{{name}}}" for name, form in parts]


def main(arguments: list[str]) -> int:
    check = arguments == ["--check"]
    if arguments and not check:
        print("translate.py: --check, or nothing", file=sys.stderr)
        return 2
    try:
        sources = texts()
    except TextError as error:
        print(f"translate.py: {error}", file=sys.stderr)
        return 2
    behind = 0
    for path in sorted((PLUGIN / "i18n").glob("*.ts")):
        language = path.stem.removeprefix("malice_qgis_")
        told = read(path)
        new = written(language, sources, told)
        if check and new != path.read_text(encoding="utf-8"):
            print(f"{path.name}: not at the texts of malice_qgis: make translate")
            behind += 1
        elif not check:
            path.write_text(new, encoding="utf-8")
        for source in sources:
            problem = misfit(source, told.get(source, ""))
            if problem:
                behind += 1
                print(f"{path.name}: {problem}: {source}")
        print(f"{path.name}: {len(sources)} texts")
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
