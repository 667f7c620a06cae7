#!/bin/sh
# Pretrains SLUSD on Gymnasium's walker.
# Arguments override settings: sh scripts/pretrain/slusd/slusd_Walker2d-v5.sh seed=1 agent.bound=nwj
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=slusd env=gym env.id=Walker2d-v5 task=pretrain "$@"
