#!/bin/sh
# Pretrains CSF on HalfCheetah. Arguments override settings: sh scripts/pretrain/csf/csf_half_cheetah.sh seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=csf env=half_cheetah task=pretrain "$@"
