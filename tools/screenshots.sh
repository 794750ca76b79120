#!/usr/bin/env bash
# Pictures of the plugin in desktop QGIS, into a folder: screenshots.sh [FOLDER]. Without one, those of docs/qgis are
# made anew, and docs/qgis/ALGORITHM.png of every algorithm.
# QGIS runs in a virtual display (desktop.sh), in a profile of its own; what it does there is in screenshots.py. The images and
# models are those of `make demo`. They are shown under SHOWN (default: ana beside other temporary files), a new folder that is removed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/qgis_here.sh
. tools/qgis_here.sh
qgis_ready || { echo "screenshots: $QGIS_MISSING" >&2; exit 1; }
bash tools/desktop.sh
[ -d demo/scene/S2 ] || { echo "screenshots: there is no demo/scene: make demo" >&2; exit 1; }

shown=${SHOWN:-${TMPDIR:-/tmp}/ana}
mkdir "$shown" || { echo "screenshots: set SHOWN to a folder that does not exist" >&2; exit 1; }
work=$(mktemp -d)
mkdir "$work/pictures"
trap 'rm -rf "$work" "$shown"' EXIT

# Pictures show paths: those of the person who took them are nobody's business.
cp -R demo/scene "$shown/fields"
ln -s "$PWD/.venv" "$shown/engine"
ln -s "$PWD/demo/models" "$shown/models"
export MALICE_MODELS="$shown/models"

profile=$work/profiles/default
mkdir -p "$profile/QGIS"
cat >"$profile/QGIS/QGIS3.ini" <<'INI'
[PythonPlugins]
processing=true

[qgis]
checkVersion=false

[app]
projections\defaultProjectCrs=EPSG:32631
INI
PROFILE=$profile bash tools/plugin.sh deploy >/dev/null
.venv/bin/python tools/qgis_settings.py "$profile" "$shown/engine/bin/python"

status=0
# TMPDIR: layers in the folder for temporary files are marked as such, and asked about.
TMPDIR=$work QGIS_CUSTOM_CONFIG_PATH=$work MALICE_SHOWN=$shown MALICE_PICTURES=$work/pictures \
    bash tools/desktop.sh tools/screenshots.py >"$work/log" 2>&1 || status=$?
grep '^screenshots:' "$work/log" || true
[ "$status" = 0 ] && grep -q '^screenshots: end' "$work/log" || { tail -n 40 "$work/log" >&2; exit 1; }

# Maps make large files; fewer colours do.
if command -v convert >/dev/null; then
    find "$work/pictures" -name '*.png' -size +250k -exec convert {} +dither -colors 256 PNG8:{} \;
fi
pictures=("$work"/pictures/*.png)
if [ -d "$work/pictures/algorithms" ]; then pictures+=("$work"/pictures/algorithms/*.png); fi
if [ $# = 0 ]; then
    for picture in "${pictures[@]}"; do
        # Of what is not in the folder of algorithms only those that a page shows.
        case $picture in
        */algorithms/*) cp "$picture" docs/qgis ;;
        *) if [ -e "docs/qgis/${picture##*/}" ]; then cp "$picture" docs/qgis; fi ;;
        esac
    done
else
    mkdir -p "$1"
    cp "${pictures[@]}" "$1"
fi
