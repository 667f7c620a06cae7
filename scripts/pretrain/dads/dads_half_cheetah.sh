#!/bin/sh
# Pretrains DADS on HalfCheetah. Arguments override settings: sh scripts/pretrain/dads/dads_half_cheetah.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=dads env=half_cheetah task=pretrain "$@"
