#!/usr/bin/env bash
# The QGIS tests on Debian 13 (QGIS 3.40, Python 3.13), whatever the machine's own system is.
#
#   sudo tests/qgis/debian13.sh ROOT [PYTEST ARGUMENTS]
#
# Makes a Debian 13 system in the folder ROOT (debootstrap; 4 GB, ten minutes; kept and used again), installs QGIS and
# an engine of its own there, copies the committed files of this checkout into it and runs tools/qgis_tests.sh.
# SUITE=sid takes Debian's newest QGIS instead (from an old mirror: APT_OPTIONS="-o Acquire::Check-Valid-Until=false").
# Nothing outside ROOT is changed; nothing of the host is mounted in it but /proc (and $MALICE_TESTDATA, read-only,
# where it is set). Needs root and the package debootstrap.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

SUITE=${SUITE:-trixie}
MIRROR=${MIRROR:-http://deb.debian.org/debian}
root=${1:?usage: debian13.sh ROOT [PYTEST ARGUMENTS]}
shift

[ "$(id -u)" = 0 ] || { echo "debian13.sh: run it as root (chroot)" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "debian13.sh: apt-get install debootstrap" >&2; exit 2; }

if [ ! -e "$root/.debootstrapped" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase --include=ca-certificates,git,python3-venv "$SUITE" "$root" "$MIRROR"
    touch "$root/.debootstrapped"
fi

# Names, certificates and settings of pip of this machine, so that packages can be had the same way.
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
if [ -e /etc/pip.conf ]; then cp /etc/pip.conf "$root/etc/pip.conf"; fi

mounts=()
unmount() { for place in "${mounts[@]}"; do umount "$place" || true; done; }
trap unmount EXIT
mount -t proc proc "$root/proc" && mounts+=("$root/proc")
if [ -n "${MALICE_TESTDATA:-}" ]; then
    mkdir -p "$root/testdata"
    mount --bind "$MALICE_TESTDATA" "$root/testdata" && mounts+=("$root/testdata")
    mount -o remount,ro,bind "$root/testdata"
fi

inside() { # a shell command in ROOT, with nothing of this machine's environment but proxies and pip's
    env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
        ${MALICE_TESTDATA:+MALICE_TESTDATA=/testdata} \
        $(env | grep -iE '^(https?_proxy|no_proxy|PIP_CERT|PIP_INDEX_URL)=' || true) \
        chroot "$root" bash -c "$1" bash "${@:2}"
}

if [ ! -e "$root/.installed-2" ]; then
    inside 'apt-get $1 update -qq && apt-get $1 install -y -qq --no-install-recommends qgis python3-gdal gdal-bin qttools5-dev-tools \
        >apt.log 2>&1 || { tail -n 3 apt.log >&2; exit 1; }' "${APT_OPTIONS:-}"
    touch "$root/.installed-2"
fi

# What is committed, not what lies about.
rm -rf "$root/malice"
mkdir "$root/malice"
git archive HEAD | tar -x -C "$root/malice"

# The engine of that system's Python. No torch: the engine does not need it.
inside 'cd /malice && { [ -x /engine/bin/python ] || python3 -m venv /engine; } && /engine/bin/python -m pip install --quiet "/malice[analysis,zarr]" build pytest setuptools'
inside 'qgis_process --version 2>/dev/null | head -n 1; python3 --version; /engine/bin/python -m malice_core.embed --contract'
inside 'cd /malice && QT_QPA_PLATFORM=offscreen MALICE_ENGINE_PYTHON=/engine/bin/python bash tools/qgis_tests.sh "$@"' "$@"
