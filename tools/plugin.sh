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
    find "$1" -name __pycache__ -type d -prune -exec rm -rf {} +
}

case ${1:-} in
deploy)
    profile=${PROFILE:-${XDG_DATA_HOME:-$HOME/.local/share}/QGIS/QGIS3/profiles/default}
    mkdir -p "$profile/QGIS"
    tree "$profile/python/plugins/malice_qgis"
    # The profile's settings are the user's: only the two values are set, everything else stays.
    .venv/bin/python - "$profile/QGIS/QGIS3.ini" "$PWD/.venv/bin/python" <<'PYTHON'
import re
import sys
from pathlib import Path

path, engine = Path(sys.argv[1]), sys.argv[2]
text = path.read_text(encoding="utf-8") if path.exists() else ""
for section, key, value in (("PythonPlugins", "malice_qgis", "true"), ("malice", "enginePython", engine)):
    head = re.search(rf"^\[{section}\]$", text, re.MULTILINE)
    if not head:
        text = f"{text.rstrip()}\n\n[{section}]\n{key}={value}\n".lstrip()
        continue
    end = re.compile(r"^\[", re.MULTILINE).search(text, head.end())
    body = text[head.end() : end.start() if end else len(text)]
    line = f"{key}={value}"
    fresh, count = re.subn(rf"^{key}=.*$", lambda _: line, body, flags=re.MULTILINE)
    if not count:
        fresh = f"\n{line}{body}"
    text = text[: head.end()] + fresh + text[head.end() + len(body) :]
partial = path.with_name(path.name + ".part")
partial.write_text(text, encoding="utf-8")
partial.replace(path)
PYTHON
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
