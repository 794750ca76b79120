"""What plugins.qgis.org and careful reviewers run, on the zip as it is uploaded: ``make validate``.

    python tools/validate.py dist/malice_qgis-0.1.0.zip

bandit, detect-secrets and flake8-qgis are in .venv; qgis-plugin-analyzer and qgis-manage in an environment of their
own, .venv-validate, which is made here. What is waived is below, each with its reason; docs/packaging.md repeats it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-validate"
PACKAGES = ("qgis-plugin-analyzer>=1.18,<2", "qgis-manage>=0.15,<1")
LIMIT = 25_000_000
#: Files that the zip must hold.
WANTED = (
    "metadata.txt",
    "LICENSE",
    "README.md",
    "__init__.py",
    "icons/malice.png",
    "i18n/malice_qgis_fr.qm",
    "setup/engine.lock",
)
#: Endings of what no plugin may carry; the engine's wheel is pure Python and ONNX graphs, which is looked at below.
BINARIES = (".so", ".dll", ".pyd", ".exe", ".dylib", ".pyc")

#: Kinds of findings of qgis-plugin-analyzer that are not mended, and why.
WAIVED = {
    "MISSING_I18N": "it knows self.tr() and QCoreApplication.translate(), not our tr(); the rest are codes, not words",
    "MISSING_DOCSTRING": "methods that QGIS calls (name, icon, …) do what QGIS' documentation says",
    "MAGIC_NUMBER": "named where they mean something; these are counts such as 1 and 2, and percentiles",
    "SPAGHETTI_CODE": "its measure is indentation: a chain of elif over events counts as depth",
    "HIGH_COMPLEXITY": "two functions that look at one case after the other, each with its sentence",
    "GOD_OBJECT": "QgsProcessingAlgorithm has that many methods to override",
    "POTENTIAL_MISSING_SLOT": "QDialog.reject is Qt's own",
    "MISSING_TYPE_HINTS": "classFactory has none, for what QGIS hands in has no type outside the desktop",
}
#: Rules of bandit that the engine's source inside the wheel breaks, on purpose.
ENGINE_WAIVED = {
    "B101": "assert tells the type checker what is so; nothing depends on it at run time",
    "B404": "the demo starts the engine's own command lines; training asks git and SLURM",
    "B603": "likewise: fixed programs, no shell",
    "B310": "models are fetched from fixed https addresses, and checked by their hashes",
    "B405": "an XML file is read here whose document types and entities are refused (anglefiles), or written (mosaic)",
    "B314": "likewise",
    "B403": "pickletools reads checkpoints without running anything; of pickle one exception is named",
    "B608": "the name of a table cannot be a parameter; it is quoted as SQLite's documentation says",
}


def run(*command: str | Path, folder: Path = ROOT) -> tuple[int, str]:
    """Exit code and words of a program."""
    told = [str(one) for one in command]
    done = subprocess.run(told, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def environment() -> Path:
    """The folder of programs of .venv-validate, which is made where it is missing or other packages are wanted."""
    stamp = ENVIRONMENT / ".set-up"
    programs = ENVIRONMENT / ("Scripts" if sys.platform == "win32" else "bin")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != "\n".join(PACKAGES):
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        venv.create(ENVIRONMENT, with_pip=True)
        code, words = run(programs / "python", "-m", "pip", "install", "--quiet", *PACKAGES)
        if code:
            sys.exit(f"validate: {words}")
        stamp.write_text("\n".join(PACKAGES), encoding="utf-8")
    return programs


def findings(told: Any) -> list[dict[str, Any]]:
    """All findings in qgis-plugin-analyzer's json, wherever they are."""
    if isinstance(told, dict):
        own = [told] if {"type", "line", "message"} <= told.keys() else []
        return [*own, *(one for value in told.values() for one in findings(value))]
    return [one for value in told for one in findings(value)] if isinstance(told, list) else []


def contents(archive: Path) -> list[str]:
    """What is wrong with the zip itself."""
    problems = []
    if archive.stat().st_size > LIMIT:
        problems.append(f"{archive} has {archive.stat().st_size} bytes, plugins.qgis.org takes {LIMIT}")
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
    problems += [f"{name} is missing" for name in WANTED if f"malice_qgis/{name}" not in names]
    problems += [f"{name} does not belong into a plugin" for name in names if name.endswith(BINARIES)]
    problems += [f"{name} lies outside malice_qgis" for name in names if not name.startswith("malice_qgis/")]
    wheels = [name for name in names if name.endswith(".whl")]
    if len(wheels) != 1 or not wheels[0].endswith("-py3-none-any.whl"):
        problems.append(f"one wheel of pure Python is wanted, there is {wheels}")
    return problems


def analysis(plugin: Path, programs: Path, work: Path) -> list[str]:
    """What qgis-plugin-analyzer and qgis-manage find that is not waived."""
    problems = []
    told = [
        programs / "qgis-analyzer",
        "analyze",
        plugin,
        "--output",
        work,
        "--linters",
        "none",
        "--no-cache",
        "--json",
    ]
    code, words = run(*told)
    try:
        found = findings(json.loads(words[words.index("{") : words.rindex("}") + 1]))
    except ValueError:
        return [f"qgis-plugin-analyzer does not answer (code {code}): {words[-500:]}"]
    others = {
        f"{one.get('file')}:{one['line']} {one['type']}: {one['message']}" for one in found if one["type"] not in WAIVED
    }
    problems += [f"qgis-plugin-analyzer: {one}" for one in sorted(others)]
    kinds = sorted({one["type"] for one in found} & WAIVED.keys())
    print(f"qgis-plugin-analyzer: {len(others)} findings; waived kinds: {', '.join(kinds)}")
    for arguments in (["validate", "--strict", "--repo", plugin], ["validate", "--strict", plugin]):
        code, words = run(programs / "qgis-manage", *arguments)
        print(f"qgis-manage {' '.join(map(str, arguments[:-1]))}: {'passed' if code == 0 else words}")
        problems += [f"qgis-manage: {words}"] if code else []
    code, words = run(programs / "qgis-analyzer", "security", plugin, folder=work)
    print(f"qgis-plugin-analyzer security: {'passed' if code == 0 else words}")
    return problems + ([f"qgis-plugin-analyzer security: {words}"] if code else [])


def scanners(plugin: Path) -> list[str]:
    """What bandit, flake8-qgis and detect-secrets find in the plugin: nothing is waived."""
    programs = Path(sys.executable).parent
    files = [path for path in sorted(plugin.rglob("*")) if path.is_file() and path.suffix != ".whl"]
    checks = {
        "bandit": [sys.executable, "-m", "bandit", "--quiet", "--recursive", plugin],
        "flake8-qgis": [sys.executable, "-m", "flake8", "--isolated", "--select=QGS", plugin],
        "detect-secrets": [programs / "detect-secrets-hook", *files],
    }
    problems = []
    for name, command in checks.items():
        code, words = run(*command)
        print(f"{name}: {'passed' if code == 0 else words}")
        problems += [f"{name}: {words}"] if code else []
    return problems


def engine(plugin: Path, work: Path) -> list[str]:
    """What bandit finds in the engine's source inside the wheel, and files there that are neither code nor models."""
    (wheel,) = plugin.glob("engine_source/*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(work / "engine")
        odd = [name for name in opened.namelist() if name.endswith(BINARIES)]
    skipped = ",".join(ENGINE_WAIVED)
    code, words = run(sys.executable, "-m", "bandit", "--quiet", "--recursive", "--skip", skipped, work / "engine")
    print(f"bandit on the engine, without {skipped}: {'passed' if code == 0 else words}")
    return [f"the wheel holds {name}" for name in odd] + ([f"bandit on the engine: {words}"] if code else [])


def main() -> int:
    """Runs all; returns 0 if nothing is found."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        print(
            "validate: give the zip: make package, then tools/validate.py dist/malice_qgis-VERSION.zip", file=sys.stderr
        )
        return 2
    archive = Path(sys.argv[1])
    programs = environment()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        problems = contents(archive)
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(work)
        plugin = work / "malice_qgis"
        problems += scanners(plugin) + analysis(plugin, programs, work / "analysis") + engine(plugin, work)
        # It wants the name that plugins.qgis.org gives; ours has a hyphen, as other tools write it.
        renamed = work / archive.name.replace("malice_qgis-", "malice_qgis.")
        shutil.copy(archive, renamed)
        code, words = run(programs / "qgis-manage", "validate", "--strict", "--zip", renamed)
        print(f"qgis-manage validate --strict --zip: {'passed' if code == 0 else words}")
        problems += [f"qgis-manage on the zip: {words}"] if code else []
    for problem in problems:
        print(f"validate: {problem}", file=sys.stderr)
    print(f"{archive}: {'nothing found' if not problems else f'{len(problems)} problems'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
