#!/bin/sh
# CSF, pretraining on the plane. Anything after the script's name overrides: sh scripts/pretrain/csf/csf_point.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=csf env=point task=pretrain "$@"
