#!/bin/sh
# Pretrains METRA on Ant. Arguments override settings: sh scripts/pretrain/metra/metra_ant.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=metra env=ant task=pretrain "$@"
