#!/bin/sh
# Pretrains VISR on Quadruped, from images. Arguments override settings: sh scripts/pretrain/visr/visr_quadruped.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
csf_need_images "$@"
exec "$PYTHON" -m csf.train agent=visr env=quadruped task=pretrain "$@"
