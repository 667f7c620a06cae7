#!/bin/sh
# Fine-tunes the best skill of a pretrained agent on the reward of Gymnasium's mountain car, with SAC.
#   sh scripts/adaptation/MountainCarContinuous-v0.sh csf          newest run of csf, metra, diayn, dads, cic, visr or slusd
#   sh scripts/adaptation/MountainCarContinuous-v0.sh csf cp_path=RUN_OR_FILE
#   sh scripts/adaptation/MountainCarContinuous-v0.sh scratch      the same training without skills
#   sh scripts/adaptation/MountainCarContinuous-v0.sh expert       without skills and ten times as long, the reference of normalized scores
# Arguments after the method override settings: seed=1 task.video=true
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
ENVIRONMENT='env=gym env.id=MountainCarContinuous-v0'
. scripts/lib/adaptation.sh
