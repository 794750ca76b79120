#!/usr/bin/env bash
# Makes .venv with the engine and everything for development. Called by `make setup` in the checkout's folder.
# PYTHON: the interpreter to use (default python3).
set -euo pipefail
PYTHON=${PYTHON:-python3}

fail() { echo "setup: $*" >&2; exit 1; }

# Debian packages are installed only where that needs no password.
if ! command -v apt-get >/dev/null; then as_root=()
elif [ "$(id -u)" = 0 ]; then as_root=(env)
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n)
else as_root=()
fi
debian() {
    [ ${#as_root[@]} -gt 0 ] || return 1
    { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@"; } >/dev/null 2>&1
}

command -v "$PYTHON" >/dev/null || debian python3 || fail "no $PYTHON found: install Python 3.11 or later"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$PYTHON" --version) is too old, 3.11 is needed: make setup PYTHON=python3.11"

if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    # A half-made environment (an interrupted run, a moved Python) is made anew.
    rm -rf .venv
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || debian python3-venv ||
        fail "$PYTHON cannot make virtual environments: install the package python3-venv"
    "$PYTHON" -m venv .venv
fi

# torch first, and exactly one release: a range would let pip choose a newer build that pulls gigabytes of CUDA
# libraries, which the tests do not use. Where the package index offers CUDA builds only, set
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu before `make setup` to get the small one.
.venv/bin/python -m pip install --quiet 'torch==2.13.0'
.venv/bin/python -m pip install --quiet --editable '.[dev]'

# GDAL of Debian reads the outputs back in tests, as QGIS would: another GDAL than the engine's own.
command -v gdalinfo >/dev/null || debian gdal-bin ||
    echo "setup: gdalinfo is missing, tests with it will be skipped: apt-get install gdal-bin" >&2
