#!/bin/sh
# Pretrains SLUSD on the plane.
# Arguments override settings: sh scripts/pretrain/slusd/slusd_point.sh seed=1 agent.bound=nwj
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=slusd env=point task=pretrain "$@"
