#!/bin/sh
# Runs all checks that a change must pass: lint, types, scripts, tests. Arguments are passed to pytest:
#   sh scripts/test.sh -m 'not slow'      sh scripts/test.sh tests/test_scripts.py
#   sh scripts/test.sh -m long            the tests that take minutes, which are excluded otherwise
# Without arguments, and if PYTHON is not set, the tests in OTHER also run on a second Python of this machine: the newest
# one, or the oldest if the newest runs all tests.
set -eu
unset CDPATH
cd "$(dirname "$0")/.."
CSF_REQUIREMENTS='requirements.txt tests/requirements.txt'
CSF_MODULES='pytest xdist ruff mypy stable_baselines3 setuptools packaging websockets'
OTHER='tests/test_packaging.py tests/test_formats.py'
named=${PYTHON:-}
. scripts/lib/python.sh

"$PYTHON" -m ruff check
"$PYTHON" -m ruff format --check
"$PYTHON" -m mypy
tools=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("scripts"))')
find scripts -name '*.sh' -exec "$tools/shellcheck" --shell=sh --external-sources {} +

# A browser for reports and the libraries that render pictures come from Debian packages. Tests that need them are skipped
# without them, so CI installs them.
lacking=''
command -v chromium >/dev/null || lacking=chromium
if csf_lacks_gl; then lacking="$lacking $CSF_GL"; fi
if [ -n "$lacking" ] && [ -n "${CI:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    csf_say "installing $lacking with apt-get, since CI is set"
    csf_apt "$lacking" || :
fi

# Image environments' model files: 200 MB, a few seconds. Another PYTHON is left as it is, and tests that need what it lacks
# are skipped. MuJoCo Warp, 400 MB, and the launchers of sweeps, 300 MB, are only for the long tests.
if [ "$PYTHON" = "$PWD/$csf_venv/bin/python" ]; then
    csf_need_models
    if [ "$*" = '-m long' ]; then
        csf_need_packages "$CSF_WARP" "MuJoCo Warp" mujoco_warp warp
        csf_need_launchers hydra/launcher=ray
    fi
fi

# One thread for each of the two workers: more are not faster with small tensors and compete for the cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

run_tests() {
    "$PYTHON" -m pytest --strict-markers --numprocesses 2 --durations 5 --ignore tests/benchmark "$@"
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# [versions, in order] -> sets csf_base to the first Python on this machine; true if its version differs from PYTHON's.
find_other() {
    csf_find_base "$@" || return 1
    other=$(version_of "$csf_base")
    [ "$other" != "$(version_of "$PYTHON")" ]
}

if [ "$*" = '-m long' ]; then
    code=0
    run_tests "$@" || code=$?
    [ "$code" != 5 ] || csf_say 'no test has the marker long'
    [ "$code" = 5 ] || exit "$code"
    exit 0
fi
if [ $# -gt 0 ]; then
    run_tests "$@"
    exit
fi
run_tests
if [ -n "$named" ]; then
    csf_say "PYTHON is set, so no other Python is tested"
elif find_other 3.13 3.12 3.11 || find_other 3.11 3.12 3.13; then
    csf_say "testing on Python $other as well: $OTHER"
    csf_venv=.venv-$other
    csf_use_venv
    # shellcheck disable=SC2086  # a list of files
    run_tests -m 'not slow' $OTHER
else
    csf_say "this machine has no other supported Python, so only $(version_of "$PYTHON") was tested"
fi
