#!/bin/sh
# Pretrains VISR on Ant. Arguments override settings: sh scripts/pretrain/visr/visr_ant.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=visr env=ant task=pretrain "$@"
