#!/bin/sh
# HalfCheetahHurdle with skills as actions.
#   sh scripts/hierarchical_control/half_cheetah_hurdle.sh csf          csf, metra, diayn, dads, cic, visr; cp_path=... names their run
#   sh scripts/hierarchical_control/half_cheetah_hurdle.sh scratch      the same task by SAC on the environment's own actions
# Anything after the method overrides: seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
ENVIRONMENT=half_cheetah_hurdle
OVER_SKILLS='task=hierarchical_ppo'
FROM_SCRATCH='task=scratch task.episodes_per_epoch=64 task.updates_per_epoch=400'
. scripts/lib/controller.sh
