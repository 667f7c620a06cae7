# shellcheck shell=sh
# Sets METHOD to the first argument of a launch script, and takes it away; refuses what is not among METHODS.
# Source it from the root of the repository.

METHODS=${METHODS:-csf metra diayn dads cic visr}
METHOD=${1:-}
case " $METHODS " in
    *" ${METHOD:-,} "*) shift ;;
    *)
        printf "csf: the method is '%s'; accepted: %s\n" "$METHOD" "$(echo "$METHODS" | sed 's/ /, /g')" >&2
        exit 1
        ;;
esac
