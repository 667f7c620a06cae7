# shellcheck shell=sh
# Trains a controller on ENVIRONMENT: with the settings OVER_SKILLS over the skills of the method that is the first
# argument, or with the settings FROM_SCRATCH. The other arguments override.
# Source it from the root of the repository, with the launch script's arguments.

METHODS='csf metra diayn dads cic visr scratch'
. scripts/lib/method.sh
. scripts/lib/python.sh
# shellcheck disable=SC2086  # lists of settings
case $METHOD in
    scratch) set -- $FROM_SCRATCH "$@" ;;
    *) set -- $OVER_SKILLS "skills=$METHOD" "$@" ;;
esac
exec "$PYTHON" -m csf.train "env=$ENVIRONMENT" "$@"
