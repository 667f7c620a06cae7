#!/bin/sh
# Runs the study "adaptation". Arguments override settings: sh scripts/study/adaptation.sh profile=ci exp_dir=FOLDER seeds=5
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
CSF_MODULES='rliable jinja2 joblib'
. scripts/lib/python.sh
exec "$PYTHON" -m csf.study adaptation "$@"
