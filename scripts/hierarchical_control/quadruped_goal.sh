#!/bin/sh
# Trains a controller on QuadrupedGoal, from images, whose actions are skills.
#   sh scripts/hierarchical_control/quadruped_goal.sh csf          the skills' method: csf, metra, diayn, cic or visr
#   sh scripts/hierarchical_control/quadruped_goal.sh csf cp_path=RUN_OR_FILE
#   sh scripts/hierarchical_control/quadruped_goal.sh scratch      SAC on the same task, without skills
# Arguments after the method override settings: seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
METHODS='csf metra diayn cic visr' # DADS cannot be trained on images
ENVIRONMENT=quadruped_goal
OVER_SKILLS='task=hierarchical'
FROM_SCRATCH='task=scratch'
. scripts/lib/controller.sh
