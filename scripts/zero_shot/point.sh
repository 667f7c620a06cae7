#!/bin/sh
# Measures zero-shot goal reaching and state coverage of skills on the plane.
#   sh scripts/zero_shot/point.sh csf          newest run of csf, metra, diayn, dads, cic, visr or slusd
#   sh scripts/zero_shot/point.sh csf cp_path=RUN_OR_FILE
# Arguments after the method override settings: goals=50
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
. scripts/lib/method.sh
. scripts/lib/python.sh
exec "$PYTHON" -m csf.evaluate "method=$METHOD" env=point "$@"
