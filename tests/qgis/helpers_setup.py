"""Tiny wheels, a lock file and an engine that answers like the real one, for tests of the set-up that take seconds."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from pathlib import Path

from helpers_qgis import Log

#: The engine's packages as wheels for QGIS' Python: ``pip download -r malice_qgis/setup/engine.lock -d FOLDER``.
WHEELS = os.environ.get("MALICE_WHEELS", "")

#: Answers the handshake as the real one does.
EMBED = """
import json, alpha, beta
print(json.dumps({"contract": 1, "version": "VERSION"}))
"""
#: Says that everything computes, or what it is told to say.
DOCTOR = """
import json, os, sys
cuda = "no card" if os.path.exists(os.path.join(sys.prefix, "..", "no_card")) else ""
wanted = sys.argv[sys.argv.index("--device") + 1]
runtimes = [{"name": "r", "device": "cpu", "problem": ""}, {"name": "r", "device": "cuda", "problem": cuda}]
print(json.dumps({"version": "VERSION", "runtimes": runtimes, "packages": {"alpha": "1.0"}}))
if wanted == "cuda" and cuda:
    sys.exit("error: nothing computes on cuda: " + cuda)
BROKEN
"""


def write_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A wheel of pure Python."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    records = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        records.append(f"{path},sha256={digest},{len(text.encode())}")
    files[f"{info}/RECORD"] = "\n".join([*records, f"{info}/RECORD,,"]) + "\n"
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in files.items():
            # Always the same moment: the same content is the same file.
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), text)
    return target


class Kit:
    """What a set-up is made of.

    Attributes:
        wheels: the folder for WHEELS.
        source: in place of the plugin's ``engine_source``.
        lock: the lock file.
    """

    def __init__(self, folder: Path) -> None:
        self.wheels, self.source, self.lock = folder / "wheels", folder / "engine_source", folder / "engine.lock"
        self.whole()
        self.engine("9.1")

    def whole(self) -> None:
        """The wheels and the lock file, as they belong together."""
        # Many small files, so that unpacking takes a moment.
        many = {f"alpha/part{number}.py": f"x = {number}\n" for number in range(60)}
        made = [
            write_wheel(self.wheels, "alpha", "1.0", {"alpha/__init__.py": "", **many}),
            write_wheel(self.wheels, "beta", "2.0", {"beta.py": "import alpha\n"}),
        ]
        lines = []
        for wheel in made:
            name, version, *_ = wheel.name.split("-")
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            lines += [f"{name}=={version} \\", f"    --hash=sha256:{digest}"]
        lines += ["gamma==3.0 ; sys_platform == 'nowhere' \\", f"    --hash=sha256:{'0' * 64}"]
        self.lock.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def engine(self, version: str, broken: str = "") -> None:
        """The engine's wheel in this version; ``broken``: a line of Python with which its doctor ends."""
        for old in self.source.glob("*.whl"):
            old.unlink()
        files = {
            "malice_core/__init__.py": "",
            "malice_core/embed.py": EMBED.replace("VERSION", version),
            "malice_core/doctor.py": DOCTOR.replace("VERSION", version).replace("BROKEN", broken),
        }
        write_wheel(self.source, "malice_core", version, files)

    def spoil(self) -> None:
        """Changes a wheel, which then is not the one in the lock file."""
        write_wheel(self.wheels, "alpha", "1.0", {"alpha/__init__.py": "print('not what was locked')\n"})


class Impatient(Log):
    """Cancels when it hears of a step."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    def pushInfo(self, info: str) -> None:
        self.texts.append(info)
        if info == self.step:
            self.cancel()

    def setProgressText(self, text: str) -> None:
        self.pushInfo(text)


def home(profile: Path) -> Path:
    """The plugin's data folder in a profile."""
    return profile / "profiles" / "default" / "malice"


def processes(folder: str) -> list[int]:
    """Ids of processes that run a program in ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(folder.encode()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found
