#!/bin/sh
# Makes .cache/venv-NAME, an environment of what runs beside Tapeline, out of requirements/NAME.txt:
# peers of the benchmarks (`bench`, if no name is given, and `cryptofeed`), `tools`, or `docs`, which
# builds the documentation site.
#
# Apart from .venv, because what they depend on must not touch the product's versions.
set -eu
cd "$(dirname "$0")/.."
exec >&2

name=${1:-bench}
lock=requirements/$name.txt
venv=.cache/venv-$name
# Wheels only, but for peers that there are none of.
binary="--only-binary :all:"
[ "$name" != cryptofeed ] || binary=
stamp=$venv/.made-from
python=${PYTHON:-.venv/bin/python}

wanted=$("$python" --version; cat "$lock" "$0" | cksum)
if [ -f $stamp ] && [ "$(cat $stamp)" = "$wanted" ] && $venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi
echo "$name: $($python --version) -> $venv"
rm -rf $venv
mkdir -p .cache
if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --no-project --python "$python" $venv
    uv pip install --quiet --compile-bytecode --python $venv/bin/python $binary \
        --require-hashes -r $lock
else
    "$python" -m venv $venv
    $venv/bin/python -m pip --disable-pip-version-check --quiet install --no-deps $binary \
        --require-hashes -r $lock
fi
printf '%s\n' "$wanted" >$stamp
echo "$name: done"
