#!/bin/sh
# Restarts all of this machine's Tapeline on the current release, readers, workers, bridge, one
# process at a time, and goes on only when /ready says so: docs/coordination.md, "Rolling deploy".
#
#   /opt/tapeline/rolling-restart            all that runs here
#   /opt/tapeline/rolling-restart UNIT...    these, in this order
#
# Status 1, and nothing more is restarted, when one is not ready within READY_S (180 s): what was
# not restarted yet still writes. With several machines: one machine after another.
set -eu

ready_s=${READY_S:-180}
say() { printf 'rolling-restart: %s\n' "$*" >&2; }

port_of() {
    case $1 in
        tapeline-worker@*) port=${1#tapeline-worker@}; echo "${port%.service}" ;;
        *) pid=$(systemctl show --property MainPID --value "$1")
           name=NT_SERVE_PORT; default=8080
           case $1 in tapeline-bridge*) name=NT_BRIDGE_PORT; default=9102 ;; esac
           found=$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n "s/^$name=//p" | tail -n 1)
           echo "${found:-$default}" ;;
    esac
}

wait_ready() {
    until_s=$(($(date +%s) + ready_s))
    while :; do
        said=$(curl --silent --max-time 3 "http://127.0.0.1:$2/ready") || said="no answer"
        case $said in *'"ready":true'*) return 0 ;; esac
        if [ "$(date +%s)" -ge "$until_s" ]; then
            say "$1 is not ready after $ready_s s: $said"
            return 1
        fi
        sleep 1
    done
}

if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046 # names of units have no spaces
    set -- $(systemctl list-units --plain --no-legend --state=active \
        'tapeline-serve.service' | cut -d' ' -f1) \
        $(systemctl list-units --plain --no-legend --state=active \
        'tapeline-worker@*.service' | cut -d' ' -f1) \
        $(systemctl list-units --plain --no-legend --state=active \
        'tapeline-bridge.service' | cut -d' ' -f1)
fi
[ $# -gt 0 ] || { say "nothing of Tapeline is active here"; exit 1; }

for unit; do
    port=$(port_of "$unit")
    # A symbol's writer and its warm copy may be this one and one that is not settled.
    for worker in $(systemctl list-units --plain --no-legend --state=active 'tapeline-worker@*.service' | cut -d' ' -f1); do
        wait_ready "$worker" "$(port_of "$worker")"
    done
    say "$unit"
    systemctl restart "$unit"
    wait_ready "$unit" "$port"
done
say "all $# on $(readlink /opt/tapeline/current || echo '?'), and ready"
