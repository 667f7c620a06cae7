#!/bin/sh
# Pretrains the paper's table of methods, environments and seeds. dry_run=true prints jobs, hours and disk:
#   sh scripts/sweep/paper.sh dry_run=true
#   sh scripts/sweep/paper.sh seeds=3 envs=ant,half_cheetah hydra/launcher=joblib hydra.launcher.n_jobs=2
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
. scripts/lib/python.sh
csf_need_images "$@"
exec "$PYTHON" -m csf.study.paper "$@"
