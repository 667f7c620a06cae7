#!/bin/sh
# Measures zero-shot goal reaching and state coverage of skills on Quadruped, from images.
#   sh scripts/zero_shot/quadruped.sh csf          newest run of csf, metra, diayn, cic or visr
#   sh scripts/zero_shot/quadruped.sh csf cp_path=RUN_OR_FILE
# Arguments after the method override settings: goals=50
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
METHODS='csf metra diayn cic visr' # DADS cannot be trained on images
. scripts/lib/method.sh
. scripts/lib/python.sh
csf_need_images "$@"
exec "$PYTHON" -m csf.evaluate "method=$METHOD" env=quadruped "$@"
