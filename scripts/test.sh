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

# What only Debian has: a browser for the page of a report, and what pictures are drawn with. Tests that miss them are
# skipped, so CI has them.
lacking=''
command -v chromium >/dev/null || lacking=chromium
ldconfig -p 2>/dev/null | grep -q 'libEGL\.so' || lacking="$lacking libegl1 libopengl0 libgl1-mesa-dri"
if [ -n "$lacking" ] && [ -n "${CI:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    csf_say "installing $lacking with apt-get, since CI is set"
    # shellcheck disable=SC2086  # a list of packages
    { apt-get update && apt-get install -y --no-install-recommends $lacking; } >&2 </dev/null || :
fi

# One thread for each of the two workers: small tensors gain nothing from more, and fight over the cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$PYTHON" -m pytest --strict-markers --numprocesses 2 --durations 5 --ignore tests/benchmark "$@"
