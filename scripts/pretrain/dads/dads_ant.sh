#!/bin/sh
# Pretrains DADS on Ant. Arguments override settings: sh scripts/pretrain/dads/dads_ant.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=dads env=ant task=pretrain "$@"
