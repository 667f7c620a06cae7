#!/bin/sh
# Two goals in the plane with skills as actions: half a minute, after scripts/pretrain/csf/csf_point.sh.
#   sh scripts/hierarchical_control/point_two_goals.sh csf          csf, metra, diayn, dads, cic, visr; cp_path=... names their run
#   sh scripts/hierarchical_control/point_two_goals.sh scratch      the same task by SAC on the environment's own actions
# Anything after the method overrides: seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
ENVIRONMENT=point_two_goals
OVER_SKILLS='task=hierarchical_point'
FROM_SCRATCH='task=scratch'
. scripts/lib/controller.sh
