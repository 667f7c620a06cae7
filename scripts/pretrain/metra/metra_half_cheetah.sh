#!/bin/sh
# Pretrains METRA on HalfCheetah. Arguments override settings: sh scripts/pretrain/metra/metra_half_cheetah.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=metra env=half_cheetah task=pretrain "$@"
