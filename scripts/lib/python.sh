# shellcheck shell=sh
# Sets and exports PYTHON, an interpreter that has the project's pinned requirements; makes .venv if there is none.
# Source it from the root of the repository. Looked at, in this order:
#   1. PYTHON, if it is set: it is trusted
#   2. .venv, if it was installed from the present requirements
#   3. the active environment, if it has every pinned version
#   4. .venv is made, or completed, with pip
# CSF_REQUIREMENTS names the files to have installed (scripts/test.sh adds tests/requirements.txt).

CSF_REQUIREMENTS=${CSF_REQUIREMENTS:-requirements.txt}

# All words go to stderr: stdout belongs to the program that the script starts.
csf_say() { printf 'csf: %s\n' "$*" >&2; }

csf_fail() {
    csf_say "$@"
    exit 1
}

# A stamp is a copy of a requirements file, put into .venv only after all of it was installed.
csf_stamp() {
    case $1 in
        requirements.txt) echo .venv/csf-requirements.txt ;; # no subprocess on the path that every run takes
        *) printf '.venv/csf-%s' "$(printf '%s' "$1" | tr / -)" ;;
    esac
}

csf_venv_is_current() {
    [ -x .venv/bin/python ] || return 1
    for csf_file in $CSF_REQUIREMENTS; do
        cmp -s "$csf_file" "$(csf_stamp "$csf_file")" || return 1
    done
}

# [python, requirements files] -> true if it is 3.11 or 3.12 and has every version that they pin.
csf_has_pins() {
    csf_python=$1
    shift
    "$csf_python" -c '
import re, sys
from importlib.metadata import version

if sys.version_info[:2] not in ((3, 11), (3, 12)):
    sys.exit(1)
for path in sys.argv[1:]:
    for name, pin in re.findall(r"^([\w.-]+)==([^\s;#]+)", open(path).read(), re.M):
        if version(name).split("+")[0] != pin:  # 2.13.0+cpu is 2.13.0
            sys.exit(1)
' "$@" >/dev/null 2>&1
}

# Sets csf_base to an interpreter that can make an environment, csf_no_venv to one that could if it had ensurepip.
# It runs them: a shim of a version manager is on the PATH whether or not there is a Python behind it.
csf_find_base() {
    csf_base='' csf_no_venv=''
    for csf_name in python3.11 python3.12 python3; do
        # Inside an environment the answer is the Python that it was made from, which outlives it.
        csf_answer=$("$csf_name" -c '
import importlib.util as u, sys
able = all(u.find_spec(name) for name in ("venv", "ensurepip"))
if sys.version_info[:2] in ((3, 11), (3, 12)):
    print("venv" if able else "%d.%d" % sys.version_info[:2], getattr(sys, "_base_executable", sys.executable))
' 2>/dev/null) || continue
        case $csf_answer in
            'venv '*)
                csf_base=${csf_answer#venv }
                return
                ;;
            3.*) csf_no_venv=${csf_no_venv:-$csf_answer} ;;
        esac
    done
}

csf_need_base() {
    csf_find_base
    [ -z "$csf_base" ] || return 0
    if [ -n "$csf_no_venv" ]; then
        csf_package="python${csf_no_venv%% *}-venv"
        if [ -n "${CI:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            csf_say "installing $csf_package with apt-get, since CI is set"
            { apt-get update && apt-get install -y "$csf_package"; } >&2 </dev/null || :
            csf_find_base
            [ -z "$csf_base" ] || return 0
        fi
        csf_unlock
        csf_fail "${csf_no_venv#* } has no venv module; on Debian and Ubuntu: sudo apt-get install $csf_package"
    fi
    csf_unlock
    csf_fail "Python 3.11 or 3.12 is needed; tried python3.11, python3.12 and python3 on the PATH, and none is one." \
        "Install one, or name it: PYTHON=/path/to/python sh ..."
}

# The lock is a symbolic link to host:pid: it is made with its content in one step, on shared file systems too.
csf_lock() {
    csf_told='' csf_interrupted='' csf_tries=0
    until ln -s "$(uname -n):$$" .venv.lock 2>/dev/null; do
        csf_holder=$(readlink .venv.lock) || {
            csf_tries=$((csf_tries + 1)) # once or twice, it was released in between
            [ "$csf_tries" -lt 5 ] || csf_fail "cannot make $PWD/.venv.lock, so .venv can't be made there either;" \
                "set PYTHON to a Python that has requirements.txt"
            continue
        }
        if csf_lock_is_stale; then
            csf_say "an earlier installation ($csf_holder) was interrupted"
            csf_interrupted=yes
            [ "$(readlink .venv.lock)" != "$csf_holder" ] || rm -f .venv.lock
            continue
        fi
        [ -n "$csf_told" ] || csf_say "waiting for another installation ($csf_holder); if there is none, delete $PWD/.venv.lock"
        csf_told=yes
        sleep 1
    done
}

# The process is gone (only its own host can tell), or an hour has passed.
csf_lock_is_stale() {
    case $csf_holder in
        "$(uname -n):"*) kill -0 "${csf_holder##*:}" 2>/dev/null || return 0 ;;
    esac
    [ -n "$(find .venv.lock -prune -mmin +60 2>/dev/null)" ]
}

csf_unlock() { rm -f .venv.lock; }

# Whatever kills this leaves the lock behind, and who finds such a lock starts .venv anew: pip takes a half-unpacked
# package for an installed one.
csf_install() {
    csf_lock
    if csf_venv_is_current; then # the other installation made it
        csf_unlock
        return
    fi
    if [ -n "$csf_interrupted" ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1 ||
        ! csf_has_pins .venv/bin/python; then
        csf_need_base
        csf_say "making $PWD/.venv with $csf_base"
        "$csf_base" -m venv --clear .venv >&2 || {
            csf_unlock
            csf_fail "could not make $PWD/.venv (the reason is above)"
        }
    fi
    csf_say "installing $CSF_REQUIREMENTS into $PWD/.venv; the first time takes minutes (PyTorch is large)"
    set --
    for csf_file in $CSF_REQUIREMENTS; do
        rm -f "$(csf_stamp "$csf_file")"
        set -- "$@" -r "$csf_file"
    done
    .venv/bin/python -m pip install --disable-pip-version-check --no-input "$@" >&2 </dev/null || {
        csf_unlock
        csf_fail "could not install $CSF_REQUIREMENTS (pip's reason is above); the next call tries again"
    }
    for csf_file in $CSF_REQUIREMENTS; do
        cp "$csf_file" "$(csf_stamp "$csf_file")"
    done
    csf_unlock
    csf_say "installed"
}

csf_choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        "$PYTHON" -c '' >/dev/null 2>&1 || csf_fail "PYTHON=$PYTHON does not run; set it to a Python 3.11 or 3.12, or unset it"
        return
    fi
    if ! csf_venv_is_current; then
        for PYTHON in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" python3; do
            # shellcheck disable=SC2086  # a list of file names
            if [ -n "$PYTHON" ] && csf_has_pins "$PYTHON" $CSF_REQUIREMENTS; then
                return
            fi
        done
        csf_install
    fi
    PYTHON=$PWD/.venv/bin/python
}

csf_choose_python
export PYTHON
