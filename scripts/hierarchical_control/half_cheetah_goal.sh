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
FROM_SCRATCH='task=scratch_half_cheetah'
. scripts/lib/controller.sh
