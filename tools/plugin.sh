#!/usr/bin/env bash
# The QGIS plugin out of the checkout. Called by make, in the checkout's folder.
#   plugin.sh deploy   copies it into a QGIS profile (PROFILE, default the user's) and points it at .venv
#   plugin.sh package  writes dist/malice_qgis-VERSION.zip
set -euo pipefail

tree() { # the folder QGIS loads, into $1
    rm -rf "$1"
    mkdir -p "$1"
    cp -R malice_qgis/. metadata.txt LICENSE "$1"/
    rm -f "$1/ruff.toml"
    bash tools/translations.sh "$1"
    find "$1" -name __pycache__ -type d -prune -exec rm -rf {} +
}

case ${1:-} in
deploy)
    case $(uname) in
    Darwin) home="$HOME/Library/Application Support" ;;
    *) home=${XDG_DATA_HOME:-$HOME/.local/share} ;;
    esac
    profile=${PROFILE:-$home/QGIS/QGIS3/profiles/default}
    tree "$profile/python/plugins/malice_qgis"
    .venv/bin/python tools/qgis_settings.py "$profile" "$PWD/.venv/bin/python"
    echo "deployed to $profile/python/plugins/malice_qgis; start QGIS: Processing Toolbox, MALICE"
    ;;
package)
    version=$(sed -n 's/^version=//p' metadata.txt)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    tree "$work/malice_qgis"
    mkdir -p dist
    .venv/bin/python -c 'import shutil, sys; shutil.make_archive(sys.argv[1], "zip", sys.argv[2], "malice_qgis")' \
        "dist/malice_qgis-$version" "$work"
    echo "dist/malice_qgis-$version.zip"
    ;;
*)
    echo "plugin.sh: deploy or package" >&2
    exit 2
    ;;
esac
