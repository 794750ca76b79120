#!/usr/bin/env bash
# Makes the translations of a plugin's folder ready for QGIS: translations.sh FOLDER turns FOLDER/i18n/*.ts into .qm.
# lrelease of Qt does that; where it is missing it is installed by apt, if that needs no password (MALICE_NO_APT=1 forbids it).
# Without it this fails, or, as translations.sh FOLDER anyway, goes on: the plugin is whole but speaks English only.
# One line says so.
set -euo pipefail

lrelease_here() { # its name, if there is one; qtchooser's /usr/bin/lrelease may be there without the program behind it
    local program
    for program in "${LRELEASE:-lrelease}" lrelease-qt5 lrelease-qt6 /usr/lib/qt5/bin/lrelease /usr/lib/qt6/bin/lrelease pyside6-lrelease; do
        if "$program" -version >/dev/null 2>&1; then echo "$program"; return; fi
    done
    return 1
}

install() {
    local as_root
    [ -z "${MALICE_NO_APT:-}" ] && command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" = 0 ]; then as_root=(env)
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n)
    else return 1
    fi
    { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends qttools5-dev-tools; } >/dev/null 2>&1
}

folder=${1:?usage: translations.sh FOLDER [anyway]}
program=$(lrelease_here) || { install && program=$(lrelease_here); } || {
    [ "${2:-}" = anyway ] || { echo "translations: lrelease is missing: apt-get install qttools5-dev-tools" >&2; exit 1; }
    rm -f "$folder"/i18n/*.ts
    echo "translations: none, because lrelease is missing: apt-get install qttools5-dev-tools" >&2
    exit 0
}
for source in "$folder"/i18n/*.ts; do
    "$program" -silent "$source" -qm "${source%.ts}.qm"
    rm "$source"
done
