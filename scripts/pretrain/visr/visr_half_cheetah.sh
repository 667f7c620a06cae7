#!/bin/sh
# Pretrains VISR on HalfCheetah. Arguments override settings: sh scripts/pretrain/visr/visr_half_cheetah.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=visr env=half_cheetah task=pretrain "$@"
