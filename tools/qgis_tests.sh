#!/usr/bin/env bash
# Runs the QGIS tests (tests/qgis) in an environment of their own, .venv-qgis: QGIS' Python with pytest-qgis.
# Nothing that QGIS brings itself (numpy, GDAL, PROJ) is installed there. Arguments are handed to pytest.
# The engine is MALICE_ENGINE_PYTHON, or .venv of this checkout (make setup).
# QGIS is installed by apt where it is missing and that needs no password; else it is said why tests are skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

skip() { echo "QGIS tests: SKIPPED: $*" >&2; exit 0; }

# The Python that Debian's QGIS is built for, not one that lies before it on the path.
QGIS_PYTHON=${QGIS_PYTHON:-/usr/bin/python3}
export PATH="$(dirname "$QGIS_PYTHON"):$PATH"
qgis_is_there() {
    { command -v qgis_process.bin || command -v qgis_process; } >/dev/null && "$QGIS_PYTHON" -c 'import qgis.core' 2>/dev/null
}

if ! qgis_is_there; then
    [ "${MALICE_NO_APT:-}" = "" ] || skip "QGIS is not installed, and MALICE_NO_APT forbids to install it"
    command -v apt-get >/dev/null || skip "QGIS is not installed and there is no apt-get: install QGIS 3.22 or later"
    if [ "$(id -u)" = 0 ]; then as_root=(env)
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n)
    else skip "QGIS is not installed: sudo apt-get install --no-install-recommends qgis python3-gdal python3-venv"
    fi
    echo "QGIS tests: installing QGIS by apt (some minutes, 3 GB)" >&2
    log=$(mktemp)
    { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends qgis python3-gdal gdal-bin python3-venv; } >"$log" 2>&1 ||
        skip "QGIS cannot be installed by apt: $(tail -n 1 "$log")"
    rm -f "$log"
    qgis_is_there || skip "QGIS was installed, but $QGIS_PYTHON cannot import it"
fi

engine=${MALICE_ENGINE_PYTHON:-$PWD/.venv/bin/python}
[ -x "$engine" ] || skip "there is no engine at $engine: make setup"

stamp=.venv-qgis/.set-up-1
if [ ! -e "$stamp" ]; then
    rm -rf .venv-qgis
    "$QGIS_PYTHON" -m venv --system-site-packages .venv-qgis 2>/dev/null ||
        skip "$QGIS_PYTHON cannot make virtual environments: apt-get install python3-venv"
    echo '*' >.venv-qgis/.gitignore
    .venv-qgis/bin/python -m pip install --quiet 'pytest>=8,<10' 'pytest-qgis==5.0.2' 'pytest-timeout>=2.3,<3' ||
        skip "pytest-qgis cannot be installed from the package index"
    touch "$stamp"
fi

export QT_QPA_PLATFORM=${QT_QPA_PLATFORM:-offscreen} MALICE_ENGINE_PYTHON="$engine"
# Settings of the user's own QGIS stay out of it.
QGIS_CUSTOM_CONFIG_PATH=$(mktemp -d)
export QGIS_CUSTOM_CONFIG_PATH
trap 'rm -rf "$QGIS_CUSTOM_CONFIG_PATH"' EXIT
if [ $# = 0 ]; then set -- -m "not acceptance"; fi
case " $* " in *" tests/qgis"*) ;; *) set -- tests/qgis "$@" ;; esac
.venv-qgis/bin/python -m pytest "$@"
