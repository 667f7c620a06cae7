#!/bin/sh
# HalfCheetahGoal with skills as actions.
#   sh scripts/hierarchical_control/half_cheetah_goal.sh csf          csf, metra, diayn, dads, cic, visr; cp_path=... names their run
#   sh scripts/hierarchical_control/half_cheetah_goal.sh scratch      the same task by SAC on the environment's own actions
# Anything after the method overrides: seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
ENVIRONMENT=half_cheetah_goal
OVER_SKILLS='task=hierarchical_ppo'
FROM_SCRATCH='task=scratch task.episodes_per_epoch=64 task.updates_per_epoch=400'
. scripts/lib/controller.sh
