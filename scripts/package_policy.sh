#!/bin/sh
# Adds a trained policy to the package, as packaged:NAME: sh scripts/package_policy.sh RUN_OR_FILE NAME
# Evaluates it with five seeds, whose range of scores its card states, and exports it to csf/packaged/NAME.
set -eu
if [ $# -ne 2 ]; then
    printf 'csf: %s arguments are given; accepted: RUN_OR_FILE NAME\n' $# >&2
    exit 1
fi
unset CDPATH
cd "$(dirname "$0")/.."
. scripts/lib/python.sh
"$PYTHON" -m csf.evaluate "$1" seeds=5
exec "$PYTHON" -m csf.export "$1" "csf/packaged/$2" video=false
