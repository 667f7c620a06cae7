# shellcheck shell=sh
# Sets and exports PYTHON, an interpreter with the packages of requirements.txt; creates .venv if needed.
# Source this file from the root of the repository. The first of these is used:
#   1. PYTHON, if it is set and has the packages, in any version. If it lacks some, it creates .venv
#      (.venv-3.12 if it is a Python 3.12 and .venv has another version)
#   2. .venv, if it was installed from the current requirements
#   3. the active environment, if it has every pinned version
#   4. .venv, created or completed with pip
# The environments that this file creates also have the command csf.
# CSF_REQUIREMENTS lists the files to install, CSF_MODULES the modules that PYTHON must have; scripts/test.sh adds to both.

CSF_REQUIREMENTS=${CSF_REQUIREMENTS:-requirements.txt}
CSF_MODULES="torch numpy gymnasium mujoco hydra tensorboard matplotlib cv2 safetensors tqdm rich${CSF_MODULES:+ $CSF_MODULES}"
CSF_IMAGES=scripts/lib/requirements-images.txt
CSF_WARP=scripts/lib/requirements-warp.txt
CSF_SWEEP=scripts/lib/requirements-sweep.txt
CSF_GL='libegl1 libopengl0 libgl1-mesa-dri'

csf_venv=.venv csf_base='' csf_no_venv=''

# Messages go to stderr, since stdout is for the output of the program that the script starts.
csf_say() { printf 'csf: %s\n' "$*" >&2; }

csf_fail() {
    csf_say "$@"
    exit 1
}

# A stamp is a copy of a requirements file in the environment, written after everything in the file was installed.
csf_stamp() {
    case $1 in
        requirements.txt) csf_copy=$csf_venv/csf-requirements.txt ;; # avoids a subprocess, since every run does this
        *) csf_copy=$csf_venv/csf-$(printf '%s' "$1" | tr / -) ;;
    esac
}

csf_has_stamp() {
    csf_stamp "$1"
    cmp -s "$1" "$csf_copy"
}

# The command csf runs the code of the folder that it was installed from, so a copy of the folder must reinstall it.
csf_has_command() {
    csf_place=''
    [ ! -r "$csf_venv/csf-place" ] || IFS= read -r csf_place <"$csf_venv/csf-place" || return 1
    [ "$csf_place" = "$(pwd -P)" ] && csf_has_stamp setup.py
}

csf_venv_is_current() {
    [ -x "$csf_venv/bin/python" ] || return 1
    for csf_file in $CSF_REQUIREMENTS; do
        csf_has_stamp "$csf_file" || return 1
    done
    csf_has_command
}

# [python, requirements files] -> true if it is Python 3.11 to 3.13 and has every pinned version.
csf_has_pins() {
    csf_python=$1
    shift
    "$csf_python" -c '
import sys
from importlib.metadata import version

if sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)):
    sys.exit(1)
for path in sys.argv[1:]:
    from packaging.requirements import Requirement  # a dependency of TensorBoard and Matplotlib

    for line in open(path, encoding="utf-8"):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        pin = Requirement(line)
        if (pin.marker is None or pin.marker.evaluate()) and version(pin.name) not in pin.specifier:
            sys.exit(1)
' "$@" >/dev/null 2>&1
}

# [python] -> sets csf_base to the interpreter that creates environments for it, or csf_no_venv if it lacks ensurepip.
# It runs python, since a version manager's shim may be on the PATH without a Python behind it.
csf_ask_base() {
    # In a virtual environment, this is its base Python, which exists after the environment is deleted.
    csf_answer=$("$1" -c '
import importlib.util as u, sys
able = all(u.find_spec(name) for name in ("venv", "ensurepip"))
if sys.version_info[:2] in ((3, 11), (3, 12), (3, 13)):
    print("venv" if able else "%d.%d" % sys.version_info[:2], getattr(sys, "_base_executable", sys.executable))
' 2>/dev/null) || return 1
    case $csf_answer in
        'venv '*) csf_base=${csf_answer#venv } ;;
        3.*) csf_no_venv=${csf_no_venv:-$csf_answer} ;;
    esac
    [ -n "$csf_base" ]
}

# [versions, in order] -> as csf_ask_base, for the first of these Pythons on this machine.
csf_find_base() {
    csf_base='' csf_no_venv=''
    for csf_version in "$@"; do
        # pyenv has only the active versions on the PATH.
        for csf_name in "python$csf_version" "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$csf_version".*/bin/python; do
            if csf_ask_base "$csf_name"; then
                return
            fi
        done
    done
    csf_ask_base python3
}

csf_need_base() {
    if csf_find_base 3.11 3.12 3.13; then
        return
    fi
    if [ -n "$csf_no_venv" ]; then
        csf_package="python${csf_no_venv%% *}-venv"
        if [ -n "${CI:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            csf_say "installing $csf_package with apt-get, since CI is set"
            { apt-get update && apt-get install -y "$csf_package"; } >&2 </dev/null || :
            if csf_find_base 3.11 3.12 3.13; then
                return
            fi
        fi
        csf_unlock
        csf_fail "${csf_no_venv#* } has no venv module; on Debian and Ubuntu: sudo apt-get install $csf_package"
    fi
    csf_unlock
    csf_fail "Python 3.11, 3.12 or 3.13 is needed; tried python3.11, python3.12, python3.13 and python3 on the PATH," \
        "and none is one. Install one, or name it: PYTHON=/path/to/python sh ..."
}

# The lock is a symbolic link to host:pid, which is created with its content atomically, also on shared file systems.
csf_lock() {
    csf_told='' csf_interrupted='' csf_tries=0
    until ln -s "$(uname -n):$$" "$csf_venv.lock" 2>/dev/null; do
        csf_holder=$(readlink "$csf_venv.lock") || {
            csf_tries=$((csf_tries + 1)) # it was released between the two commands
            [ "$csf_tries" -lt 5 ] || csf_fail "cannot make $PWD/$csf_venv.lock, so $csf_venv can't be made there" \
                "either; set PYTHON to a Python that has requirements.txt"
            continue
        }
        if csf_lock_is_stale; then
            csf_say "an earlier installation ($csf_holder) was interrupted"
            csf_interrupted=yes
            [ "$(readlink "$csf_venv.lock")" != "$csf_holder" ] || rm -f "$csf_venv.lock"
            continue
        fi
        [ -n "$csf_told" ] ||
            csf_say "waiting for another installation ($csf_holder); if there is none, delete $PWD/$csf_venv.lock"
        csf_told=yes
        sleep 1
    done
}

# The process has ended (which only its own host can check), or an hour has passed.
csf_lock_is_stale() {
    case $csf_holder in
        "$(uname -n):"*) kill -0 "${csf_holder##*:}" 2>/dev/null || return 0 ;;
    esac
    [ -n "$(find "$csf_venv.lock" -prune -mmin +60 2>/dev/null)" ]
}

csf_unlock() { rm -f "$csf_venv.lock"; }

# [name, arguments of pip install] -> installs into the environment; on failure, names what could not be installed.
csf_pip() {
    csf_what=$1
    shift
    "$csf_venv/bin/python" -m pip install --disable-pip-version-check --no-input "$@" >&2 </dev/null || {
        csf_unlock
        csf_fail "could not install $csf_what (pip's reason is above); the next call tries again"
    }
}

# If this is killed, the lock remains, and the next call recreates the environment: pip would consider a partly unpacked
# package as installed.
csf_install() {
    csf_lock
    if csf_venv_is_current; then # another installation has completed it
        csf_unlock
        return
    fi
    if [ -n "$csf_interrupted" ] || ! "$csf_venv/bin/python" -m pip --version >/dev/null 2>&1 ||
        ! csf_has_pins "$csf_venv/bin/python"; then
        [ -n "$csf_base" ] || csf_need_base
        csf_say "making $PWD/$csf_venv with $csf_base"
        "$csf_base" -m venv --clear "$csf_venv" >&2 || {
            csf_unlock
            csf_fail "could not make $PWD/$csf_venv (the reason is above)"
        }
    fi
    csf_install_requirements
    csf_has_command || csf_install_command
    csf_unlock
}

csf_install_requirements() {
    set --
    for csf_file in $CSF_REQUIREMENTS; do
        csf_has_stamp "$csf_file" || set -- "$@" "$csf_file"
    done
    [ $# -gt 0 ] || return 0
    csf_say "installing $* into $PWD/$csf_venv; the first time takes minutes (PyTorch is large)"
    set --
    for csf_file in $CSF_REQUIREMENTS; do
        csf_stamp "$csf_file"
        rm -f "$csf_copy"
        set -- "$@" -r "$csf_file"
    done
    csf_pip "$CSF_REQUIREMENTS" "$@"
    for csf_file in $CSF_REQUIREMENTS; do
        csf_stamp "$csf_file"
        cp "$csf_file" "$csf_copy"
    done
    csf_say "installed"
}

# Needs no network: setuptools, which builds it, is one of the requirements.
csf_install_command() {
    rm -f "$csf_venv/csf-place"
    csf_pip "the command csf" --quiet --no-deps --no-build-isolation --editable .
    csf_stamp setup.py
    cp setup.py "$csf_copy"
    pwd -P >"$csf_venv/csf-place"
}

# [arguments of the program] -> installs what image environments need: model files, and what renders the images.
csf_need_images() {
    csf_need_models
    case " $* " in
        *' env.renderer=warp '*) csf_need_packages "$CSF_WARP" "MuJoCo Warp" mujoco_warp warp ;;
        *) csf_need_gl ;;
    esac
}

# Only the model files of the packages are used. They are installed without their dependencies, some of which have no
# wheels for every Python or require another MuJoCo.
csf_need_models() {
    csf_need_packages "$CSF_IMAGES" "the model files of image environments" dm_control gymnasium_robotics metaworld
}

# [arguments of the program] -> installs the launcher of sweeps or the sweeper that they ask for.
csf_need_launchers() {
    case " $* " in
        *' hydra/launcher=ray '* | *' hydra/launcher=submitit_'* | *' hydra/sweeper=optuna '*)
            csf_need_packages "$CSF_SWEEP" "launchers of sweeps" ray submitit optuna
            ;;
    esac
}

# [requirements file, its description, modules] -> installs the file into the environment of this script: launchers with
# their dependencies, others without; for any other PYTHON, which the user manages, fails if it lacks one of the modules.
csf_need_packages() {
    csf_list=$1 csf_kind=$2 csf_how=--no-deps
    shift 2
    [ "$csf_list" != "$CSF_SWEEP" ] || csf_how=''
    if [ "$PYTHON" != "$PWD/$csf_venv/bin/python" ]; then
        csf_has_modules "$@" || csf_fail "PYTHON=$PYTHON lacks $csf_kind: $PYTHON -m pip install${csf_how:+ $csf_how} -r" \
            "$PWD/$csf_list"
        return
    fi
    if csf_has_stamp "$csf_list"; then return; fi
    csf_lock
    csf_say "installing $csf_list into $PWD/$csf_venv"
    csf_pip "$csf_list" --quiet ${csf_how:+"$csf_how"} -r "$csf_list"
    csf_stamp "$csf_list"
    cp "$csf_list" "$csf_copy"
    csf_unlock
}

# OpenGL comes from Debian packages. Where they cannot be installed here, the program's error message names them.
csf_need_gl() {
    if [ -z "${MUJOCO_GL:-}" ] && csf_lacks_gl && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        csf_say "installing $CSF_GL with apt-get"
        csf_apt "$CSF_GL" || csf_say "could not install $CSF_GL (the reason is above)"
    fi
}

# True if ldconfig is there and lists neither of the libraries that MuJoCo renders with.
csf_lacks_gl() {
    csf_libraries=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null) || return 1
    case $csf_libraries in
        *libEGL.so* | *libOSMesa.so*) return 1 ;;
    esac
}

# [packages, separated by spaces]
csf_apt() {
    # shellcheck disable=SC2086  # a list of packages
    { apt-get update && apt-get install -y --no-install-recommends $1; } >&2 </dev/null
}

# [modules] -> 0 if PYTHON finds all of them, 3 if not, 4 if it is older than 3.11; other codes: it does not run.
csf_has_modules() {
    "$PYTHON" -c '
import importlib.util as u, sys
sys.exit(4 if sys.version_info < (3, 11) else 0 if all(map(u.find_spec, sys.argv[1:])) else 3)
' "$@" >/dev/null 2>&1
}

csf_use_named_python() {
    csf_code=0
    # shellcheck disable=SC2086  # a list of modules
    csf_has_modules $CSF_MODULES || csf_code=$?
    case $csf_code in
        0) return ;;
        3) ;;
        4) csf_fail "PYTHON=$PYTHON is older than 3.11; set it to a Python 3.11, 3.12 or 3.13, or unset it" ;;
        *) csf_fail "PYTHON=$PYTHON does not run; set it to a Python 3.11, 3.12 or 3.13, or unset it" ;;
    esac
    csf_ask_base "$PYTHON" || csf_fail "PYTHON=$PYTHON lacks some of $CSF_MODULES, and cannot make an environment that" \
        "has them: it is no Python 3.11, 3.12 or 3.13, or has no venv module"
    csf_number='import sys; print("%d.%d" % sys.version_info[:2])'
    csf_version=$("$PYTHON" -c "$csf_number")
    csf_other=$(.venv/bin/python -c "$csf_number" 2>/dev/null) || csf_other=$csf_version
    [ "$csf_other" = "$csf_version" ] || csf_venv=.venv-$csf_version
    csf_use_venv
}

csf_use_venv() {
    csf_venv_is_current || csf_install
    PYTHON=$PWD/$csf_venv/bin/python
}

csf_choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        csf_use_named_python
        return
    fi
    if ! csf_venv_is_current; then
        for PYTHON in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" python3; do
            # shellcheck disable=SC2086  # a list of file names
            if [ -n "$PYTHON" ] && csf_has_pins "$PYTHON" $CSF_REQUIREMENTS; then
                return
            fi
        done
    fi
    csf_use_venv
}

csf_choose_python
csf_need_launchers "$@"
export PYTHON
