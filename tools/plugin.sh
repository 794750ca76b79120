#!/usr/bin/env bash
# The QGIS plugin out of the checkout. Called by make, in the checkout's folder.
#   plugin.sh tree DIR  the folder that QGIS loads, into DIR
#   plugin.sh deploy    copies it into a QGIS profile (PROFILE, default the user's) and points it at .venv
#   plugin.sh package [DIR]  writes malice_qgis-VERSION.zip into DIR (dist)
# MALICE_BUILD_PYTHON: a Python with the packages build and setuptools (default that of .venv).
set -euo pipefail
PYTHON=${MALICE_BUILD_PYTHON:-.venv/bin/python}
# plugins.qgis.org takes 25 MB.
LIMIT=25000000

tree() { # the folder QGIS loads, into $1: plugin, translations, and the engine's wheel with the models for trying out
    # (where $2 is "anyway", without what cannot be made here: in English; and malice:setup says that an engine is named)
    local work
    rm -rf "$1"
    mkdir -p "$1/engine_source"
    cp -R malice_qgis/. metadata.txt LICENSE "$1"/
    rm -f "$1/ruff.toml"
    bash tools/translations.sh "$1" "${2:-}"
    find "$1" -name __pycache__ -type d -prune -exec rm -rf {} +
    if ! "$PYTHON" -c 'import build, setuptools' 2>/dev/null; then
        echo "plugin.sh: $PYTHON lacks the packages build and setuptools (make setup): no engine comes along" >&2
        [ "${2:-}" = anyway ]
        return
    fi
    # setuptools leaves its work where it builds: in a copy, from which stale modules cannot get into the wheel.
    work=$(mktemp -d)
    cp -R malice_core models pyproject.toml README.md LICENSE "$work"/
    find "$work" -name __pycache__ -type d -prune -exec rm -rf {} +
    # The time of the last commit, so that the same source makes the same wheel.
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 1700000000) \
        "$PYTHON" -m build --wheel --no-isolation --outdir "$1/engine_source" "$work" >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; rm -rf "$work"; return 1; }
    rm -rf "$work"
}

case ${1:-} in
tree)
    tree "${2:?plugin.sh tree DIR}"
    ;;
deploy)
    case $(uname) in
    Darwin) home="$HOME/Library/Application Support" ;;
    *) home=${XDG_DATA_HOME:-$HOME/.local/share} ;;
    esac
    profile=${PROFILE:-$home/QGIS/QGIS3/profiles/default}
    # Beside it first: a build that fails leaves the plugin that is there.
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    tree "$work/malice_qgis" anyway
    mkdir -p "$profile/python/plugins"
    rm -rf "$profile/python/plugins/malice_qgis"
    mv "$work/malice_qgis" "$profile/python/plugins/"
    "$PYTHON" tools/qgis_settings.py "$profile" "$PWD/.venv/bin/python"
    echo "deployed to $profile/python/plugins/malice_qgis; start QGIS: Processing Toolbox, MALICE"
    ;;
package)
    version=$(sed -n 's/^version=//p' metadata.txt)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    tree "$work/malice_qgis"
    mkdir -p "${2:-dist}"
    zip="${2:-dist}/malice_qgis-$version.zip"
    "$PYTHON" -c 'import shutil, sys; shutil.make_archive(sys.argv[1][:-4], "zip", sys.argv[2], "malice_qgis")' \
        "$zip" "$work"
    size=$(wc -c <"$zip")
    [ "$size" -le "$LIMIT" ] || { echo "$zip has $size bytes, plugins.qgis.org takes $LIMIT" >&2; exit 1; }
    echo "$zip ($((size / 1000)) kB)"
    ;;
*)
    echo "plugin.sh: tree, deploy or package" >&2
    exit 2
    ;;
esac
