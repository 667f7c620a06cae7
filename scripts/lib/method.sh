# shellcheck shell=sh
# Sets METHOD to the first argument of a launch script and removes that argument; fails if it is not one of METHODS.
# Source this file from the root of the repository.

METHODS=${METHODS:-csf metra diayn dads cic visr slusd}
METHOD=''
for csf_method in $METHODS; do
    if [ "$csf_method" = "${1:-}" ]; then METHOD=$1; fi
done
if [ -z "$METHOD" ]; then
    printf "csf: the method is '%s'; accepted: %s\n" "${1:-}" "$(echo "$METHODS" | sed 's/ /, /g')" >&2
    exit 1
fi
shift
