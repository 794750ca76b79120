"""pip, run in the new environment out of a wheel: its command lines, how far it is, and how it reaches the network.

pip itself is never installed: a wheel that comes with Python does (or one out of the folder of wheels, or the one in
``pip.lock``, fetched by QGIS), so that it makes no difference whether Python has a pip. It is QGIS' own child, too,
which ends when it is told.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Mapping
from typing import Callable
from urllib.parse import quote

from qgis.core import QgsBlockingNetworkRequest, QgsFeedback, QgsNetworkAccessManager
from qgis.PyQt.QtCore import QUrl
from qgis.PyQt.QtNetwork import QNetworkProxy, QNetworkRequest

from ..texts import UserError, tr

HERE = os.path.dirname(__file__)
#: Runs pip out of the wheel that is the first argument. It ends when stdin is closed: a QGIS that is killed takes it
#: along, else it would go on to write where the next set-up does.
_RUN = """
import _thread, os, runpy, sys

def watch():
    while os.read(0, 4096):  # not sys.stdin, whose lock Python wants when it ends
        pass
    os._exit(3)

_thread.start_new_thread(watch, ())
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("pip", None, "__main__", True)
"""
#: Of pip's own variables, those that say how packages are reached; the others would change what is installed where.
_REACH = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_TRUSTED_HOST",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_PROXY",
    "PIP_TIMEOUT",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_RETRIES",
    "PIP_CONFIG_FILE",
    "PIP_CACHE_DIR",
)
#: The version of CUDA that the packages in engine-cuda.lock are for, as drivers tell theirs: 1000 * major + 10 * minor.
#: A driver for an older one loads none of them. (tests/test_lock.py compares it with the lock.)
CUDA = 13000
#: The release of pip from which its progress can be read.
_RAW = (24, 1)
_VERSION = re.compile(r"pip-(\d+)\.(\d+)[\w.]*-py3-none-any\.whl")


class NoPip(UserError):
    """pip cannot be had."""


def lock_file(device: str) -> str:
    """The lock file of an engine for ``cpu`` or ``cuda``."""
    return os.path.join(HERE, "engine-cuda.lock" if device == "cuda" else "engine.lock")


def locked(path: str) -> list[str]:
    """The requirements of a lock file (``numpy==2.4.6``), one a package and platform."""
    with open(path, encoding="utf-8") as file:
        lines = [line.split(";")[0].strip(" \\\n") for line in file]
    return [line for line in lines if line and not line.startswith(("#", "--hash"))]


def wheel(own: str, wheels: str, folder: str, feedback: QgsFeedback) -> str:
    """A wheel of pip.

    Args:
        own: one that comes with the Python, "" if none does.
        wheels: the folder of wheels of an offline set-up, "" if there is a network.
        folder: where one that is fetched goes.

    Raises:
        NoPip: if there is none.
    """
    if own:
        return own
    with open(os.path.join(HERE, "pip.lock"), encoding="utf-8") as file:
        found = re.match(r"pip @ (https://\S+/(pip-\S+\.whl))\s.*--hash=sha256:(\w+)", file.read(), re.DOTALL)
    if found is None:
        raise NoPip(tr("{} is damaged: install the plugin anew.").format(os.path.join(HERE, "pip.lock")))
    address, name, digest = found.groups()
    for path in glob.glob(os.path.join(glob.escape(wheels or folder), glob.escape(name))):
        with open(path, "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() == digest:
                return path
    missing = tr("This Python comes without pip (Debian, Ubuntu: sudo apt install python3-venv)")
    if wheels:
        raise NoPip(tr("{0}, and the folder {1} has no {2}: put it there.").format(missing, wheels, name))
    content = _fetch(address, feedback)
    if hashlib.sha256(content).hexdigest() != digest:
        raise NoPip(tr("{0}, and {1} is not the file that was expected.").format(missing, address))
    target = os.path.join(folder, name)
    with open(target, "wb") as file:
        file.write(content)
    return target


def _fetch(address: str, feedback: QgsFeedback) -> bytes:
    """By QGIS, with its proxy and certificates."""
    request = QgsBlockingNetworkRequest()
    code = request.get(QNetworkRequest(QUrl(address)), False, feedback)
    if code != QgsBlockingNetworkRequest.ErrorCode.NoError:
        raise NoPip(tr("{0} cannot be fetched: {1}.").format(address, request.errorMessage()))
    return bytes(request.reply().content())


def install(pip: str, wanted: list[str], wheels: str = "") -> list[str]:
    """Arguments of the environment's Python that install what is in files of requirements, and nothing else.

    Args:
        pip: pip's wheel.
        wanted: the files; every line of them has hashes.
        wheels: the only folder packages come from; "" for the index.
    """
    version = _VERSION.fullmatch(os.path.basename(pip))
    raw = version is not None and (int(version[1]), int(version[2])) >= _RAW
    options = [
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--no-user",
        "--disable-pip-version-check",
    ]
    options += ["--no-color", f"--progress-bar={'raw' if raw else 'off'}"]
    offline = ["--no-index", "--find-links", wheels] if wheels else []
    return [
        "-I",
        "-X",
        "utf8",
        "-c",
        _RUN,
        pip,
        "install",
        *options,
        *offline,
        *(f"--requirement={one}" for one in wanted),
    ]


def environment(system: Mapping[str, str]) -> dict[str, str]:
    """Variables by which pip reaches packages: the user's own, and QGIS' proxy where the system tells of none.

    Args:
        system: this process' environment.
    """
    return {**{name: system[name] for name in _REACH if system.get(name)}, **proxies(system)}


def proxies(system: Mapping[str, str]) -> dict[str, str]:
    """Variables by which programs without Qt go through QGIS' proxy; none where the system tells of one itself.

    Args:
        system: this process' environment.
    """
    if any(system.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return {}
    manager = QgsNetworkAccessManager.instance()
    address = proxy_address(manager.fallbackProxy())
    if not address:
        return {}
    told = {"HTTPS_PROXY": address, "HTTP_PROXY": address}
    excluded = [*manager.excludeList(), *manager.noProxyList()]
    hosts = [QUrl(one).host() or one for one in excluded if one]
    return {**told, "NO_PROXY": ",".join(hosts)} if hosts else told


def proxy_address(proxy: QNetworkProxy) -> str:
    """The proxy as pip reads it, "" for none (or one of SOCKS, which pip alone does not speak)."""
    kinds = (QNetworkProxy.ProxyType.HttpProxy, QNetworkProxy.ProxyType.HttpCachingProxy)
    if proxy.type() not in kinds or not proxy.hostName():
        return ""
    user, password = quote(proxy.user(), safe=""), quote(proxy.password(), safe="")
    who = f"{user}{':' + password if password else ''}@" if user else ""
    host = f"[{proxy.hostName()}]" if ":" in proxy.hostName() else proxy.hostName()
    return f"http://{who}{host}:{proxy.port() or 8080}"


class Progress:
    """Hears pip and says how far it is.

    Args:
        total: requirements of the lock file.
        step: is told the share that is done, 0 to 1.
        say: is told what people read.
    """

    #: Share of the way after which everything is fetched and only unpacked.
    FETCHED = 0.7

    def __init__(self, total: int, step: Callable[[float], None], say: Callable[[str], None]) -> None:
        self._total, self._step, self._say = total, step, say
        self._begun = 0

    def hear(self, line: str) -> None:
        """A line of pip's output."""
        text = line.strip()
        if text.startswith("Ignoring "):
            self._total -= 1  # for another platform or Python
        elif text.startswith(("Collecting ", "Processing ")):
            # The second is said of files that lie here.
            self._begun += 1
            self._say(os.path.basename(text.split(" ", 1)[1].split(" (from")[0]))
            self._at(0.0)
        elif text.startswith("Progress "):
            numbers = [int(one) for one in re.findall(r"\d+", text)]
            if len(numbers) == 2 and numbers[1]:
                self._at(min(numbers[0] / numbers[1], 1.0))
        elif text.startswith("Downloading ") and "(" in text:
            self._say("   " + text)
        elif text.startswith("Installing collected packages"):
            self._step(self.FETCHED)
            self._say(tr("Everything is fetched; now it is unpacked, which takes a minute."))
        elif text.startswith("Successfully installed"):
            self._step(1.0)

    def unpacked(self, count: int) -> None:
        """So many packages are installed."""
        self._step(self.FETCHED + (1 - self.FETCHED) * min(count / max(self._total, 1), 1.0))

    def _at(self, part: float) -> None:
        done = max(self._begun - 1, 0) + part
        self._step(self.FETCHED * min(done / max(self._total, 1), 1.0))
