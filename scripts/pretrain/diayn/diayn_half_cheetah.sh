#!/bin/sh
# Pretrains DIAYN on HalfCheetah. Arguments override settings: sh scripts/pretrain/diayn/diayn_half_cheetah.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=diayn env=half_cheetah task=pretrain "$@"
