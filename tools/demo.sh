#!/usr/bin/env bash
# The demonstration, called by make: the scene is embedded by qgis_process with the plugin, in a profile of its own
# (demo/qgis). Where QGIS is not to be had, which is said, the engine is run from the shell. Arguments: those of
# malice_core.demo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/qgis_here.sh
. tools/qgis_here.sh

if qgis_ready; then
    PROFILE="$PWD/demo/qgis/profiles/default" bash tools/plugin.sh deploy >/dev/null
    export QGIS_CUSTOM_CONFIG_PATH="$PWD/demo/qgis"
    exec .venv/bin/python -m malice_core.demo --out demo --qgis-process "$QGIS_PROCESS" "$@"
fi
echo "demo: without QGIS, from the shell: $QGIS_MISSING" >&2
exec .venv/bin/python -m malice_core.demo --out demo "$@"
