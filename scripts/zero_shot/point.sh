#!/bin/sh
# Zero-shot goal reaching and state coverage of skills on the plane.
#   sh scripts/zero_shot/point.sh csf          csf, metra, diayn, dads, cic, visr: the newest run of that method
#   sh scripts/zero_shot/point.sh csf cp_path=RUN_OR_FILE
# Anything after the method overrides: goals=50
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
. scripts/lib/method.sh
. scripts/lib/python.sh
exec "$PYTHON" -m csf.evaluate "method=$METHOD" env=point "$@"
