#!/usr/bin/env bash
# Runs the QGIS tests (tests/qgis) in an environment of their own, .venv-qgis: QGIS' Python with pytest-qgis.
# Nothing that QGIS brings itself (numpy, GDAL, PROJ) is installed there. Arguments are handed to pytest.
# The engine is MALICE_ENGINE_PYTHON, or .venv of this checkout (make setup).
# QGIS is installed by apt where it is missing and that needs no password; else it is said why tests are skipped.
# Where QGIS is, whatever else is missing is a failure: nothing passes by not being run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/qgis_here.sh
. tools/qgis_here.sh

fail() { echo "QGIS tests: FAILED: $*" >&2; exit 1; }

qgis_ready || { echo "QGIS tests: SKIPPED: $QGIS_MISSING"; exit 0; }
engine=${MALICE_ENGINE_PYTHON:-$PWD/.venv/bin/python}
[ -x "$engine" ] || fail "there is no engine at $engine: make setup"

stamp=.venv-qgis/.set-up-2
if [ ! -e "$stamp" ]; then
    rm -rf .venv-qgis
    "$QGIS_PYTHON" -m venv --system-site-packages .venv-qgis 2>/dev/null ||
        fail "$QGIS_PYTHON cannot make virtual environments: apt-get install python3-venv"
    echo '*' >.venv-qgis/.gitignore
    .venv-qgis/bin/python -m pip install --quiet 'pytest>=8,<10' 'pytest-qgis==5.0.2' 'pytest-timeout>=2.3,<3' \
        'pytest-xdist>=3.7,<4' || fail "pytest-qgis cannot be installed from the package index"
    touch "$stamp"
fi

export MALICE_ENGINE_PYTHON="$engine"
# Settings of the user's own QGIS stay out of it, and those of each of two processes out of the other's.
settings=$(cd "$(mktemp -d)" && pwd)
trap 'rm -rf "$settings"' EXIT
mkdir "$settings/0" "$settings/1"
export QGIS_CUSTOM_CONFIG_PATH=$settings/0
if [ $# = 0 ]; then set -- -m "not acceptance"; fi
case " $* " in
*" tests/qgis"* | *"-m acceptance"*) ;; # what is looked at closely, or takes the machine for itself: one process
*) for one in 0 1; do set -- "$@" --tx "popen//env:QGIS_CUSTOM_CONFIG_PATH=$settings/$one"; done
    set -- "$@" --dist=loadfile --no-loadscope-reorder ;;
esac
case " $* " in *" tests/qgis"*) ;; *) set -- tests/qgis "$@" ;; esac
.venv-qgis/bin/python -m pytest "$@"
