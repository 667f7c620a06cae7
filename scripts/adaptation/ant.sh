#!/bin/sh
# Fine-tunes the best skill of a pretrained agent on Ant's reward, with SAC.
#   sh scripts/adaptation/ant.sh csf          newest run of csf, metra, diayn, dads, cic, visr or slusd
#   sh scripts/adaptation/ant.sh csf cp_path=RUN_OR_FILE
#   sh scripts/adaptation/ant.sh scratch      the same training without skills
#   sh scripts/adaptation/ant.sh expert       without skills and ten times as long, the reference of normalized scores
# Arguments after the method override settings: seed=1 task.video=true
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
ENVIRONMENT='env=ant'
. scripts/lib/adaptation.sh
