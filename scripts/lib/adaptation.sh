# shellcheck shell=sh
# Adapts a skill to the task ENVIRONMENT, a list of settings. The first argument is the skills' method, or "scratch" or
# "expert" for a reference without skills. The other arguments override settings.
# Source this file from the root of the repository, with the launch script's arguments.

METHODS="${METHODS:-csf metra diayn dads cic visr slusd} scratch expert"
. scripts/lib/method.sh
. scripts/lib/python.sh
case $METHOD in
    expert) set -- task.steps=1000000 "$@" ;;
esac
# shellcheck disable=SC2086  # a list of settings
exec "$PYTHON" -m csf.adapt $ENVIRONMENT "method=$METHOD" "$@"
