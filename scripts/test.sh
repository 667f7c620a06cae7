#!/bin/sh
# Everything that must hold before a change lands: lint, types, scripts, tests. Arguments go to pytest:
#   sh scripts/test.sh -m 'not slow'      sh scripts/test.sh tests/test_scripts.py
set -eu
cd "$(dirname "$0")/.."
CSF_REQUIREMENTS='requirements.txt tests/requirements.txt'
. scripts/lib/python.sh

"$PYTHON" -m ruff check
"$PYTHON" -m ruff format --check
"$PYTHON" -m mypy
tools=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("scripts"))')
find scripts -name '*.sh' -exec "$tools/shellcheck" --shell=sh --external-sources {} +

# One thread for each of the two workers: small tensors gain nothing from more, and fight over the cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$PYTHON" -m pytest --strict-markers --numprocesses 2 --durations 5 --ignore tests/benchmark "$@"
