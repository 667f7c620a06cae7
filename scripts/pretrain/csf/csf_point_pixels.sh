#!/bin/sh
# Pretrains CSF on the plane, observed as images. Arguments override settings: sh scripts/pretrain/csf/csf_point_pixels.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=csf env=point_pixels task=pretrain "$@"
