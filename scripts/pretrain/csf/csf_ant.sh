#!/bin/sh
# Pretrains CSF on Ant. Arguments override settings: sh scripts/pretrain/csf/csf_ant.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=csf env=ant task=pretrain "$@"
