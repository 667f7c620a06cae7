#!/bin/sh
# Pretrains SLUSD on Gymnasium's mountain car.
# Arguments override settings: sh scripts/pretrain/slusd/slusd_MountainCarContinuous-v0.sh seed=1 agent.bound=nwj
set -eu
unset CDPATH
cd "$(dirname "$0")/../../.."
. scripts/lib/python.sh
exec "$PYTHON" -m csf.train agent=slusd agent.skill_dim=10 env=gym env.id=MountainCarContinuous-v0 task=pretrain "$@"
