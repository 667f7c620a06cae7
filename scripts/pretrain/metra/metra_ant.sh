#!/bin/sh
# METRA, pretraining on Ant. Anything after the script's name overrides: sh scripts/pretrain/metra/metra_ant.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=metra env=ant task=pretrain "$@"
