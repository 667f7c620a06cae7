#!/bin/sh
# AntMultiGoal with skills as actions.
#   sh scripts/hierarchical_control/ant_multi_goal.sh csf          csf, metra, diayn, dads, cic, visr; cp_path=... names their run
#   sh scripts/hierarchical_control/ant_multi_goal.sh scratch      the same task by SAC on the environment's own actions
# Anything after the method overrides: seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
ENVIRONMENT=ant_multi_goal
OVER_SKILLS='task=hierarchical'
FROM_SCRATCH='task=scratch'
. scripts/lib/controller.sh
