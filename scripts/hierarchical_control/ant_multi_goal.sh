#!/bin/sh
# AntMultiGoal with skills as actions.
#   sh scripts/hierarchical_control/ant_multi_goal.sh csf          csf, metra, diayn, dads, cic, visr; cp_path=... names their run
#   sh scripts/hierarchical_control/ant_multi_goal.sh scratch      the same task by SAC on the environment's own actions
# Anything after the method overrides: seed=1
set -eu
cd "$(dirname "$0")/../.."
METHODS='csf metra diayn dads cic visr scratch'
. scripts/lib/method.sh
. scripts/lib/python.sh
case $METHOD in
    scratch) set -- task=scratch "$@" ;;
    *) set -- task=hierarchical "skills=$METHOD" "$@" ;;
esac
exec "$PYTHON" -m csf.train env=ant_multi_goal "$@"
