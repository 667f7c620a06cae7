#!/bin/sh
# Two goals in the plane with skills as actions: half a minute, after scripts/pretrain/csf/csf_point.sh.
#   sh scripts/hierarchical_control/point_two_goals.sh csf          csf, metra, diayn, dads, cic, visr; cp_path=... names their run
#   sh scripts/hierarchical_control/point_two_goals.sh scratch      the same task by SAC on the environment's own actions
# Anything after the method overrides: seed=1
set -eu
cd "$(dirname "$0")/../.."
METHODS='csf metra diayn dads cic visr scratch'
. scripts/lib/method.sh
. scripts/lib/python.sh
case $METHOD in
    scratch) set -- task=scratch "$@" ;;
    *) set -- task=hierarchical hold=4 "skills=$METHOD" "$@" ;;
esac
exec "$PYTHON" -m csf.train env=point_two_goals "$@"
