#!/bin/sh
# systemd-analyze verify of all units, drop-ins included: verify.sh EMPTY_FOLDER. Silent where all is
# well; a line that systemd does not know, or only warns of, is a failure.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$1
units=$root/units

mkdir -p "$units" "$root/bin"
cp -R "$here"/units/* "$here/kafka/kafka.service" "$units/"
version=$(systemd-analyze --version | sed -n '1s/[^0-9]*\([0-9]*\).*/\1/p')
# As install.sh does.
[ "$version" -ge 254 ] || rm "$units/tapeline-.service.d/20-backoff.conf"
# Programs that are there, wherever this runs.
for program in tapeline faust java; do
    printf '#!/bin/sh\n' >"$root/bin/$program"
    chmod +x "$root/bin/$program"
done
sed -i "s#/opt/tapeline/current/bin/#$root/bin/#; s#/usr/bin/java#$root/bin/java#" "$units"/*.service

said=$(SYSTEMD_UNIT_PATH="$units:" SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no \
    "$units/tapeline.target" "$units/tapeline.slice" "$units/tapeline-topics.service" \
    "$units/tapeline-bridge.service" "$units/tapeline-worker@9101.service" \
    "$units/tapeline-serve.service" "$units/kafka.service" 2>&1) || status=$?
# Of the machine's own units, nothing is said here.
said=$(printf '%s\n' "$said" | grep -F -e "$root" -e tapeline -e kafka || true)
if [ -n "$said" ]; then
    printf '%s\n' "$said" >&2
    exit 1
fi
exit "${status:-0}"
