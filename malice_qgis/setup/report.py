"""The diagnosis: what a maintainer asks first, as a text without secrets that users copy into a report."""

from __future__ import annotations

import html
import locale
import os
import platform
import shutil
import sys
from datetime import datetime
from typing import Any, Callable

from osgeo import gdal
from qgis.core import Qgis, QgsNetworkAccessManager, QgsSettings
from qgis.PyQt.QtCore import PYQT_VERSION_STR, QT_VERSION_STR
from qgis.PyQt.QtNetwork import QNetworkProxy
from qgis.utils import pluginMetadata

from .. import engine, events, lastwords, tables
from ..redacting import redact
from ..texts import tr
from . import building, pips, places, pythons

#: Lines of the set-up's log that are told.
TAIL = 15
#: Variables that change what the engine does; what else is in the environment is nobody's business.
VARIABLES = ("MALICE_ENGINE_PYTHON", "MALICE_MODELS", "OSGEO4W_ROOT", "GDAL_HTTP_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
Section = tuple[str, list[str]]


def collect(cancelled: Callable[[], bool]) -> str:
    """The report; whatever cannot be found out is told as such.

    Raises:
        engine.EngineCancelled: if ``cancelled`` said so.
    """
    # First what failed last: an engine that is asked, and fails, is the last one afterwards.
    failure = _failure()
    sections = [_qgis(), *_engine(cancelled), _folders(), _network(), failure]
    head = tr("MALICE diagnosis, {}").format(datetime.now().isoformat(" ", "seconds"))
    lines = [head]
    for title, content in sections:
        lines += ["", f"== {title}", *content]
    return redact("\n".join(lines)) + "\n"


def page(text: str) -> str:
    """The report as HTML."""
    style = "<style>pre {white-space: pre-wrap}</style>"
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>MALICE</title>{style}</head>'
        f"<body><pre>{html.escape(text)}</pre></body></html>\n"
    )


def write(path: str, text: str) -> None:
    """The report into a file, whole or not at all: HTML where the name ends so, else plain text.

    Raises:
        OSError: if it cannot be written.
    """
    tables.write_page(path, page(text) if path.lower().endswith((".html", ".htm")) else text)


def _qgis() -> Section:
    version = pluginMetadata(__package__.split(".")[0], "version")
    libraries = f"Qt {QT_VERSION_STR}, PyQt {PYQT_VERSION_STR}, GDAL {gdal.VersionInfo('RELEASE_NAME')}"
    return "QGIS", [
        f"QGIS {Qgis.QGIS_VERSION}, {libraries}",
        f"Python {platform.python_version()} in {sys.exec_prefix}",
        f"plugin {'?' if version == '__error__' else version} in {building.PLUGIN}, contract {engine.CONTRACT}",
        f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} processors, locale {locale.getlocale()[0]}",
    ]


def _engine(cancelled: Callable[[], bool]) -> list[Section]:
    where, python = engine.places()[0]
    lines = [f"{where}: {python}"]
    lines += [f"variable {name}={os.environ[name]}" for name in VARIABLES if os.environ.get(name)]
    made = building.record(places.current()) if places.current() else {}
    if made:
        told = ", ".join(f"{name} {str(made.get(name))[:60]}" for name in ("made", "device", "python"))
        lines.append(f"made by malice:setup: {told}")
    old = building.outdated(python)
    lines += [f"problem: {old}"] if old else []
    findings, problems = _asked(python, cancelled, lines.append)
    lines += [f"problem: {one}" for one in dict.fromkeys(problems)]
    if not findings:
        return [("Engine", lines)]
    return [("Engine", [*lines, *_abilities(findings)]), ("Models", _models(findings))]


def _asked(python: str, cancelled: Callable[[], bool], say: Callable[[str], None]) -> tuple[dict[str, Any], list[str]]:
    """What the engine finds out about itself, and all that is wrong: an engine that is broken tells the more."""
    problems = []
    try:
        engine.find()
    except engine.EngineError as error:
        return {}, [str(error)]
    try:
        say(f"version {engine.handshake(python, cancelled)}")
    except engine.EngineCancelled:
        raise
    except engine.EngineError as error:
        problems.append(str(error))
    try:
        found, problem = building.examine(python, cancelled)
    except engine.EngineCancelled:
        raise
    except engine.EngineError as error:
        return {}, [*problems, str(error)]
    return found, [*problems, problem] if problem else problems


def _abilities(told: dict[str, Any]) -> list[str]:
    """Of what the doctor says; of an engine of another version it may have another shape."""
    packages = told.get("packages")
    versions = [f"{k} {v}" for k, v in packages.items() if v] if isinstance(packages, dict) else []
    python, system, threads = (events.text(told, key) for key in ("python", "system", "processors"))
    lines = [
        f"Python {python} on {system}, {threads} threads",
        f"GDAL {events.text(told, 'gdal')}, {', '.join(versions)}",
    ]
    for one in _objects(told, "runtimes"):
        state = events.text(one, "problem") or "computes"
        lines.append(f"{events.text(one, 'name')} on {events.text(one, 'device')}: {state}")
    return lines + [f"broken: {line}" for line in events.texts(told, "broken")]


def _models(told: dict[str, Any]) -> list[str]:
    lines = [
        " ".join(events.text(one, key) for key in ("name", "identity", "folder")) for one in _objects(told, "models")
    ]
    return [*lines, *(f"damaged: {line}" for line in events.texts(told, "damaged"))] or [tr("none")]


def _objects(told: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = told.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _folders() -> Section:
    disk = shutil.disk_usage(places.home() if os.path.isdir(places.home()) else os.path.expanduser("~"))
    lines = [
        f"data: {places.home()} ({disk.free / 1e9:.1f} of {disk.total / 1e9:.1f} GB free)",
        f"engines: counts {places.current() or 'none'}; others {', '.join(places.others()) or 'none'}",
    ]
    try:
        with open(places.log_file(), encoding="utf-8", errors="replace") as file:
            lines += [f"{places.log_file()} ends:", *(f"  {line.rstrip()}" for line in file.readlines()[-TAIL:])]
    except OSError:
        lines.append("no set-up was run here")
    return "Folders", lines


def _network() -> Section:
    proxy = QgsNetworkAccessManager.instance().fallbackProxy()
    kind = "none" if proxy.type() == QNetworkProxy.ProxyType.NoProxy or not proxy.hostName() else proxy.hostName()
    enabled = QgsSettings().value("proxy/proxyEnabled", False, bool)
    told = [name for name in pips.environment(dict(os.environ)) if name.startswith("PIP_")]
    return "Network", [
        f"QGIS' proxy: {'on' if enabled else 'off'}, {kind}",
        f"pip's variables: {', '.join(told) or 'none'}",
        f"Pythons the engine is made for: {pythons.OLDEST} to {pythons.NEWEST}",
    ]


def _failure() -> Section:
    return "Last failure of the engine", lastwords.read().splitlines() or [tr("none")]
