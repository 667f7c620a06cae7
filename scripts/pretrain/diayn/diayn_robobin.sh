#!/bin/sh
# Pretrains DIAYN on Robobin, from images. Arguments override settings: sh scripts/pretrain/diayn/diayn_robobin.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
csf_need_images "$@"
exec "$PYTHON" -m csf.train agent=diayn env=robobin task=pretrain "$@"
