#!/bin/sh
# Makes .venv from the hashed lock and puts the project into it, editable.
#
# Quick when nothing changed: the stamp holds a checksum of what the environment was made from.
# Everything is said on stderr, so that `make dev ARGS="--json"` leaves stdout to the program.
set -eu
cd "$(dirname "$0")/.."
exec >&2

lock=requirements/dev.txt
venv=.venv
stamp=$venv/.made-from

wanted=$(cat "$lock" pyproject.toml hatch_build.py streams/_scan.h streams/venues/binance/_wire.c tables/_lane.c "$0" | cksum)
if [ -x $venv/bin/tapeline ] && [ -f $stamp ] && [ "$(cat $stamp)" = "$wanted" ] \
    && $venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

supported() {
    # A version manager's shim can exist and still not run, so it is asked, not looked for.
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null
}

python=
for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if supported "$candidate"; then
        python=$(command -v "$candidate")
        break
    fi
done
if [ -z "$python" ]; then
    echo "setup: no Python 3.11, 3.12 or 3.13 found (looked for: ${PYTHON:-python3.13 python3.12 python3.11 python3 python})."
    echo "setup: install one, or say where it is: make setup PYTHON=/path/to/python3.13"
    exit 1
fi
echo "setup: $($python --version) -> $venv"

# Another Python's environment, or a broken one, can't be reused.
if [ -e $venv ] && ! supported $venv/bin/python; then
    rm -rf $venv
fi
rm -f $stamp

# Wheels only: a source package would fetch a build backend that no hash covers.
# The project itself is built by the hatchling of the lock, hence --no-build-isolation.
if command -v uv >/dev/null 2>&1; then
    [ -d $venv ] || uv venv --quiet --no-project --python "$python" $venv
    uv pip install --quiet --compile-bytecode --python $venv/bin/python --only-binary :all: \
        --require-hashes -r $lock
    uv pip install --quiet --python $venv/bin/python --no-deps --no-build-isolation --editable .
else
    if [ ! -d $venv ] && ! "$python" -m venv $venv; then
        rm -rf $venv
        echo "setup: $python can't make virtual environments; install its venv package, or uv."
        exit 1
    fi
    pip="$venv/bin/python -m pip --disable-pip-version-check --quiet"
    # The lock is whole. Asked for dependencies too, pip takes a newer release for a requirement with
    # extras than the one pinned, and then refuses it for its missing hash.
    $pip install --no-deps --only-binary :all: --require-hashes -r $lock
    $pip install --no-deps --no-build-isolation --editable .
fi

# Six processes start at once in `tapeline dev`: compiling each module in each of them would cost
# more than all the rest of the start.
$venv/bin/python -m compileall -q agents lua serving streams tables tapeline

printf '%s\n' "$wanted" >$stamp
echo "setup: done"
