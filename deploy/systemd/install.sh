#!/bin/sh
# Installs this checkout on a machine with systemd, as root; again for each new version.
#
#   deploy/systemd/install.sh              a release below /opt/tapeline, units, user, settings
#   deploy/systemd/install.sh --root DIR   everything below DIR, for a look; nothing is started
#
# Each run makes a release of its own and points /opt/tapeline/current at it; what runs keeps its
# release until it is restarted, and the one before stays for a way back. Settings that are there
# are left as they are. Nothing is enabled, started or restarted here.
set -eu

say() { printf 'install: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

root=
while [ $# -gt 0 ]; do
    case $1 in
        --root) root=${2%/}; shift 2 ;;
        *) fail "unknown option $1; --root DIR is the only one" ;;
    esac
done
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "must be root: /opt, /etc and a user are its work"

here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
opt=$root/opt/tapeline
etc=$root/etc/tapeline
units=$root/etc/systemd/system

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }
# One below somebody's home is out of reach for the user that runs it, and for ProtectHome.
reachable() {
    real=$(readlink -f "$("$1" -c 'import sys; print(sys.executable)')")
    case $real in /root* | /home*) return 1 ;; esac
}
python=
for candidate in ${PYTHON:-/usr/bin/python3 python3.13 python3.12 python3.11 python3}; do
    if supported "$candidate" && reachable "$candidate"; then
        python=$(command -v "$candidate")
        break
    fi
done
[ -n "$python" ] || fail "no Python 3.11, 3.12 or 3.13 that every user may run (PYTHON=/path/to/python3.13 names one)"
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv; install python3-venv"
command -v gcc >/dev/null || say "no C compiler: without the fast lanes a worker does half as much"

# --- a release -----------------------------------------------------------------------------------

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$checkout/pyproject.toml")
release=$version-$(date -u +%Y%m%dT%H%M%S)
target=$opt/releases/$release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'rm -rf "$work" "$target"; exit 1' INT TERM

say "$($python --version) -> $target"
umask 022
mkdir -p "$opt/releases"
"$python" -m venv "$target"
"$python" -m venv "$work/build"
# Wheels by hash only, as in the Dockerfile; what builds stays out of what runs.
pip() { where=$1; shift; "$where/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip "$target" install --no-deps --only-binary :all: --require-hashes -r "$checkout/requirements/core.txt"
pip "$work/build" install --no-deps --only-binary :all: --require-hashes -r "$checkout/requirements/build.txt"
mkdir "$work/source"
for part in pyproject.toml hatch_build.py README.md LICENSE agents lua serving streams tables tapeline; do
    cp -R "$checkout/$part" "$work/source/"
done
# What was built here for another interpreter is built anew.
find "$work/source" -name '*.so' -delete
(cd "$work/source" && pip "$work/build" wheel --no-deps --no-build-isolation --wheel-dir "$work/wheels" .)
pip "$target" install --no-deps --no-index "$work"/wheels/*.whl
"$target/bin/python" -m compileall -q "$target/lib"
[ -n "$root" ] || "$target/bin/tapeline" version >/dev/null

before=$(readlink "$opt/current" || true)
# One step: there is no moment without it.
ln -s "releases/$release" "$opt/current.new"
mv -T "$opt/current.new" "$opt/current"

# --- settings, user, units -----------------------------------------------------------------------

install -d -m 0755 "$root/etc/sysusers.d" "$root/etc/tmpfiles.d" "$units"
install -d -m 0750 "$etc"
[ -e "$etc/tapeline.env" ] || install -m 0640 "$here/tapeline.env" "$etc/tapeline.env"
[ -e "$etc/secrets.env" ] || install -m 0600 "$here/secrets.env" "$etc/secrets.env"
install -m 0644 "$here/sysusers.conf" "$root/etc/sysusers.d/tapeline.conf"
install -m 0644 "$here/tmpfiles.conf" "$root/etc/tmpfiles.d/tapeline.conf"
for unit in "$here"/units/*; do
    [ -d "$unit" ] || install -m 0644 "$unit" "$units/"
done
install -d -m 0755 "$units/tapeline-.service.d"
install -m 0644 "$here/units/tapeline-.service.d/10-common.conf" "$units/tapeline-.service.d/"
# Earlier ones warn of every line they do not know.
systemd=$(systemctl --version 2>/dev/null | sed -n '1s/[^0-9]*\([0-9]*\).*/\1/p')
rm -f "$units/tapeline-.service.d/20-backoff.conf"
if [ "${systemd:-0}" -ge 254 ]; then
    install -m 0644 "$here/units/tapeline-.service.d/20-backoff.conf" "$units/tapeline-.service.d/"
fi
install -m 0755 "$here/rolling-restart.sh" "$opt/rolling-restart"

if [ -z "$root" ]; then
    systemd-sysusers /etc/sysusers.d/tapeline.conf
    systemd-tmpfiles --create /etc/tmpfiles.d/tapeline.conf
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
fi

say "done: release $release"
if [ -n "$before" ]; then
    say "what runs stays on ${before#releases/} until it is restarted: $opt/rolling-restart"
    say "the way back: ln -sfn $before $opt/current"
fi
