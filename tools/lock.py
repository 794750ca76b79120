"""The lock files of the engine that the plugin's set-up installs: ``make lock``.

``malice_qgis/setup/engine.lock`` holds pyproject's dependencies with the extras ``analysis`` and ``zarr``, one release
of each package with the hashes of its files; ``engine-cuda.lock`` the same with onnxruntime for NVIDIA GPUs and the
CUDA libraries. uv resolves them for all platforms at once, from the package index; afterwards each platform and Python
is tried by itself (nothing is installed), because a release may lack a wheel for one of them.
``pip.lock`` is the pip that does the installing where Python comes without one (Debian's does).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "malice_qgis" / "setup"
EXTRAS = ("analysis", "zarr")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
#: Platforms in uv's words: the oldest systems that the wheels are for, and the newest Python they have.
PLATFORMS = {
    "x86_64-manylinux_2_28": "3.14",
    "aarch64-manylinux_2_35": "3.14",  # openvino's wheels for ARM: Debian 12, Ubuntu 22.04
    "x86_64-pc-windows-msvc": "3.14",
    "aarch64-apple-darwin": "3.14",  # macOS 14, see OLDEST
    "x86_64-apple-darwin": "3.13",  # onnxruntime gave up Intel Macs before Python 3.14
}
#: onnxruntime's wheels for Macs.
OLDEST = {"aarch64-apple-darwin": "14.0", "x86_64-apple-darwin": "13.0"}
#: onnxruntime-gpu is made for these alone.
WITH_CUDA = ("x86_64-manylinux_2_28", "x86_64-pc-windows-msvc")
CUDA_ENVIRONMENTS = "sys_platform == 'linux' and platform_machine == 'x86_64'", "sys_platform == 'win32'"
CUDA = "onnxruntime-gpu[cuda,cudnn]"  # the extras bring CUDA's libraries: users have a driver, seldom more
PIP = "https://pypi.org/simple/pip/"


def uv(*arguments: str, folder: Path = ROOT, environment: dict[str, str] | None = None) -> None:
    """Runs uv in a folder; it ends the program where uv fails, with uv's words."""
    # Only metadata is needed of other Pythons: none is downloaded.
    told = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", **(environment or {})}
    command = [sys.executable, "-m", "uv", *arguments]
    done = subprocess.run(command, env=told, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"lock: uv {' '.join(arguments)}:\n{done.stderr}")


def cuda_requirements(project: dict[str, object]) -> list[str]:
    """The requirements of the engine with onnxruntime for GPUs in place of the other; both cannot be installed."""
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for extra in EXTRAS for one in extras[extra])]  # type: ignore[misc, index]
    swapped = [re.sub(r"^onnxruntime(?=[<>=])", CUDA, one) for one in wanted]
    if swapped == wanted:
        sys.exit("lock: pyproject.toml has no requirement onnxruntime")
    return swapped


def compile_lock(target: Path, folder: Path, *more: str) -> None:
    """Resolves the pyproject.toml of ``folder`` into ``target``; releases that are locked are kept where they fit."""
    options = ["--universal", "--generate-hashes", "--no-build", "--no-annotate", f"--python-version={PYTHONS[0]}"]
    # uv takes its rules (tool.uv) from the folder it runs in.
    uv("pip", "compile", "pyproject.toml", *options, *more, "--quiet", f"--output-file={target}", folder=folder)
    lines = [one for one in target.read_text(encoding="utf-8").splitlines() if not one.startswith("#")]
    head = f"# Made by tools/lock.py for Python {PYTHONS[0]} to {PYTHONS[-1]}; do not edit: make lock"
    target.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")


def check(lock: Path, platforms: tuple[str, ...]) -> None:
    """Every package has a wheel, with its hash in the lock, on each platform and Python."""
    with tempfile.TemporaryDirectory() as folder:
        for platform in platforms:
            for python in PYTHONS[: PYTHONS.index(PLATFORMS[platform]) + 1]:
                options = [f"--python-platform={platform}", f"--python-version={python}", f"--target={folder}"]
                environment = {"MACOSX_DEPLOYMENT_TARGET": OLDEST[platform]} if platform in OLDEST else {}
                strict = [
                    "--no-config",
                    "--dry-run",
                    "--require-hashes",
                    "--only-binary=:all:",
                    f"--python={sys.executable}",
                ]
                uv("pip", "install", *strict, *options, "--requirements", str(lock), environment=environment)
                print(f"{lock.name}: {platform}, Python {python}: whole")


def pip_line() -> str:
    """The newest pip as a requirement: the address of its wheel and the hash."""
    request = urllib.request.Request(PIP, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    release = re.compile(r"pip-(\d+)\.(\d+)(?:\.(\d+))?-py3-none-any\.whl")
    found = [
        (tuple(int(n or 0) for n in m.groups()), one) for one in files if (m := release.fullmatch(one["filename"]))
    ]
    _, newest = max((pair for pair in found if not pair[1].get("yanked")), key=lambda pair: pair[0])
    return f"pip @ {newest['url']} \\\n    --hash=sha256:{newest['hashes']['sha256']}\n"


def main() -> None:
    """Writes the three files anew. ``--upgrade``: the newest releases instead of those that are locked."""
    more = [one for one in sys.argv[1:] if one == "--upgrade"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lock, cuda = FOLDER / "engine.lock", FOLDER / "engine-cuda.lock"
    compile_lock(lock, ROOT, *(f"--extra={extra}" for extra in EXTRAS), *more)
    check(lock, tuple(PLATFORMS))
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "pyproject.toml"
        rules = {**project["tool"]["uv"], "environments": CUDA_ENVIRONMENTS}
        lists = {"dependencies": cuda_requirements(project["project"]), **rules}
        # Lists of texts in json are toml too.
        dependencies, *rest = [f"{key} = {json.dumps(list(value))}\n" for key, value in lists.items()]
        other.write_text(
            f'[project]\nname = "engine"\nversion = "0"\nrequires-python = ">={PYTHONS[0]}"\n{dependencies}'
            f"[tool.uv]\n{''.join(rest)}",
            encoding="utf-8",
        )
        compile_lock(cuda, other.parent, *more)
    check(cuda, WITH_CUDA)
    (FOLDER / "pip.lock").write_text(pip_line(), encoding="utf-8")


if __name__ == "__main__":
    main()
