#!/bin/sh
# CSF, pretraining on Ant. Anything after the script's name overrides: sh scripts/pretrain/csf/csf_ant.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=csf env=ant task=pretrain "$@"
