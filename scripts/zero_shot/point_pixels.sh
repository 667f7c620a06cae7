#!/bin/sh
# Measures zero-shot goal reaching and state coverage of skills on the plane, observed as images.
#   sh scripts/zero_shot/point_pixels.sh csf          newest run of csf, metra, diayn, dads, cic or visr
#   sh scripts/zero_shot/point_pixels.sh csf cp_path=RUN_OR_FILE
# Arguments after the method override settings: goals=50
set -eu
unset CDPATH
cd "$(dirname "$0")/../.."
. scripts/lib/method.sh
. scripts/lib/python.sh
exec "$PYTHON" -m csf.evaluate "method=$METHOD" env=point_pixels "$@"
