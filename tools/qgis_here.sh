# Sourced by the scripts that need QGIS: finds it, and installs it by apt where it is missing and may be.
#
#   qgis_ready   true: QGIS_PYTHON imports qgis and QGIS_PROCESS runs; PATH begins with QGIS_PYTHON's folder.
#                false: QGIS_MISSING says why, and what to do.
# MALICE_NO_APT=1 forbids to install anything.

# The Python that Debian's QGIS is built for, not one that lies before it on the path.
QGIS_PYTHON=${QGIS_PYTHON:-/usr/bin/python3}

_qgis_found() {
    # Debian 12's wrapper qgis_process always fails (its defaults hold options of the desktop); the binary works.
    QGIS_PROCESS=$(command -v qgis_process.bin || command -v qgis_process) && "$QGIS_PYTHON" -c 'import qgis.core' 2>/dev/null
}

qgis_ready() {
    local as_root log
    PATH="$(dirname "$QGIS_PYTHON"):$PATH"
    export PATH QT_QPA_PLATFORM="${QT_QPA_PLATFORM:-offscreen}"
    _qgis_found && return
    QGIS_MISSING="QGIS is not installed, and MALICE_NO_APT forbids to install it"
    [ -z "${MALICE_NO_APT:-}" ] || return 1
    QGIS_MISSING="QGIS is not installed and there is no apt-get: install QGIS 3.22 or later"
    command -v apt-get >/dev/null || return 1
    QGIS_MISSING="QGIS is not installed: sudo apt-get install --no-install-recommends qgis python3-gdal python3-venv"
    if [ "$(id -u)" = 0 ]; then as_root=(env)
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n)
    else return 1
    fi
    echo "installing QGIS by apt (some minutes, 3 GB)" >&2
    log=$(mktemp)
    if { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends qgis python3-gdal gdal-bin python3-venv qttools5-dev-tools; } >"$log" 2>&1; then
        rm -f "$log"
        QGIS_MISSING="QGIS was installed, but $QGIS_PYTHON cannot import it"
        _qgis_found
        return
    fi
    QGIS_MISSING="QGIS cannot be installed by apt: $(tail -n 1 "$log")"
    rm -f "$log"
    return 1
}
