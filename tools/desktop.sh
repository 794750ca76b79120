#!/usr/bin/env bash
# Desktop QGIS in a virtual display: desktop.sh SCRIPT. SCRIPT runs in it as soon as it is there, and can import what lies
# in tools (driving.py); the profile is QGIS_CUSTOM_CONFIG_PATH's. Ends when QGIS does, or after LIMIT seconds (900).
# Without a SCRIPT it only says what is missing.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for program in Xvfb openbox qgis; do
    command -v "$program" >/dev/null || { echo "desktop.sh: $program is missing: sudo apt-get install xvfb openbox qgis" >&2; exit 1; }
done
[ $# = 1 ] || exit 0

started=()
trap 'for one in "${started[@]}"; do kill "$one" 2>/dev/null || true; done' EXIT
exec 3< <(exec Xvfb -displayfd 1 -screen 0 1400x900x24 -nolisten tcp 2>/dev/null)
started+=($!)
read -r -t 20 number <&3 || { echo "desktop.sh: Xvfb does not start" >&2; exit 1; }
export DISPLAY=:$number
openbox >/dev/null 2>&1 &
started+=($!)

# Buttons are known by their English names.
export LC_ALL=C.UTF-8 PYTHONPATH=$tools QT_QPA_PLATFORM=xcb LIBGL_ALWAYS_SOFTWARE=1
timeout "${LIMIT:-900}" qgis --nologo --noversioncheck --code "$1"
