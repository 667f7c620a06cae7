#!/bin/sh
# Pretrains DIAYN on Ant. Arguments override settings: sh scripts/pretrain/diayn/diayn_ant.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=diayn env=ant task=pretrain "$@"
