#!/bin/sh
# Trains a controller on HalfCheetahHurdle whose actions are skills.
#   sh scripts/hierarchical_control/half_cheetah_hurdle.sh csf          the skills' method: csf, metra, diayn, dads, cic, visr or slusd
#   sh scripts/hierarchical_control/half_cheetah_hurdle.sh csf cp_path=RUN_OR_FILE
#   sh scripts/hierarchical_control/half_cheetah_hurdle.sh scratch      SAC on the same task, without skills
# Arguments after the method override settings: seed=1
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
ENVIRONMENT=half_cheetah_hurdle
OVER_SKILLS='task=hierarchical_ppo'
FROM_SCRATCH='task=scratch_half_cheetah'
. scripts/lib/controller.sh
