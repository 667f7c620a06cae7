#!/bin/sh
# Pretrains METRA on Kitchen, from images. Arguments override settings: sh scripts/pretrain/metra/metra_kitchen.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
csf_need_images "$@"
exec "$PYTHON" -m csf.train agent=metra env=kitchen task=pretrain "$@"
