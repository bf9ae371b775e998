#!/bin/sh
# A report with curl alone: its numbers, how old they are, and whether that is too old.
#
#   sh examples/readers/curl.sh BTCUSDT                  once
#   sh examples/readers/curl.sh BTCUSDT --watch          again and again
#
# READER is the reader's address (http://127.0.0.1:8080 unless set), TAPELINE_KEY a key where one is
# wanted. Exit status: 0 fresh, 3 stale or no report, 1 no answer. The age stands in the answer's
# headers, not in the report: the report is the same for everybody, its age is not.
set -u
symbol=${1:?usage: curl.sh SYMBOL [--watch]}
reader=${READER:-http://127.0.0.1:8080}
answer=$(mktemp) && headers=$(mktemp) || exit 1
trap 'rm -f "$answer" "$headers"' EXIT
trap 'exit 130' INT TERM

ask() {
    # The key goes in by standard input: others on this machine can read a command line.
    printf 'header = "%s"\n' "${TAPELINE_KEY:+Authorization: Bearer $TAPELINE_KEY}" |
        curl --config - --silent --show-error --max-time 1 --get \
            --data-urlencode "symbol=$symbol" --dump-header "$headers" --output "$answer" \
            --write-out '%{http_code}' "$reader/get_report"
}

header() { tr -d '\r' <"$headers" | tr 'A-Z' 'a-z' | sed -n "s/^$1: *//p" | head -n 1; }
number() { sed -n "s/.*\"$1\":\([-0-9.e]*\).*/\1/p" "$answer"; }

show() {
    if ! status=$(ask) || [ "$status" != 200 ]; then
        echo "$symbol  stale  no answer (${status:-000})"
        [ "$status" = 000 ] || cat "$answer" >&2
        return 1
    fi
    if [ "$(cat "$answer")" = null ]; then
        echo "$symbol  stale  no report"
        return 3
    fi
    age="$(header x-data-age-ms)"
    age="${age:-?} ms old"
    state=stale
    [ "$(header x-report-stale)" = false ] && state=fresh
    echo "$symbol  $state  mid $(number mid_price) ($age)  spread $(number spread_bps) bps ($age)"
    [ "$state" = fresh ] || return 3
}

if [ "${2:-}" != --watch ]; then
    show
    exit
fi
while :; do
    show
    sleep 0.25
done
