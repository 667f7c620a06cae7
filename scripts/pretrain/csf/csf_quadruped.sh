#!/bin/sh
# Pretrains CSF on Quadruped, from images. Arguments override settings: sh scripts/pretrain/csf/csf_quadruped.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
csf_need_images "$@"
exec "$PYTHON" -m csf.train agent=csf env=quadruped task=pretrain "$@"
