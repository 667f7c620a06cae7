#!/bin/sh
# Pretrains CIC on HalfCheetah. Arguments override settings: sh scripts/pretrain/cic/cic_half_cheetah.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=cic env=half_cheetah task=pretrain "$@"
