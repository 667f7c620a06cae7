#!/bin/sh
# Pretrains CIC on Ant. Arguments override settings: sh scripts/pretrain/cic/cic_ant.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=cic env=ant task=pretrain "$@"
