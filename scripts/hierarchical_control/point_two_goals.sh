#!/bin/sh
# Trains a controller on PointTwoGoals whose actions are skills. It takes half a minute; first train the skills with
# scripts/pretrain/csf/csf_point.sh.
#   sh scripts/hierarchical_control/point_two_goals.sh csf          the skills' method: csf, metra, diayn, dads, cic, visr or slusd
#   sh scripts/hierarchical_control/point_two_goals.sh csf cp_path=RUN_OR_FILE
#   sh scripts/hierarchical_control/point_two_goals.sh scratch      SAC on the same task, without skills
# Arguments after the method override settings: seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
ENVIRONMENT=point_two_goals
OVER_SKILLS='task=hierarchical_point'
FROM_SCRATCH='task=scratch'
. scripts/lib/controller.sh
