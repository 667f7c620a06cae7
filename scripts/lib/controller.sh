# shellcheck shell=sh
# Trains a controller on ENVIRONMENT. The first argument is a method, whose skills are used with the settings OVER_SKILLS,
# or "scratch", for the settings FROM_SCRATCH. The other arguments override settings.
# Source this file from the root of the repository, with the launch script's arguments.

METHODS="${METHODS:-csf metra diayn dads cic visr slusd} scratch"
. scripts/lib/method.sh
. scripts/lib/python.sh
case $ENVIRONMENT in
    quadruped_goal | humanoid_goal) csf_need_images "$@" ;;
esac
# shellcheck disable=SC2086  # lists of settings
case $METHOD in
    scratch) set -- $FROM_SCRATCH "$@" ;;
    *) set -- $OVER_SKILLS "skills=$METHOD" "$@" ;;
esac
exec "$PYTHON" -m csf.train "env=$ENVIRONMENT" "$@"
