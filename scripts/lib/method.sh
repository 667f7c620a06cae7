# shellcheck shell=sh
# Sets METHOD to the first argument of a launch script, and takes it away; refuses what is not a method.
# Source it from the root of the repository.

METHOD=${1:-}
case $METHOD in
    csf | metra | diayn | dads | cic | visr | scratch) shift ;;
    *)
        printf "csf: the method is '%s'; accepted: csf, metra, diayn, dads, cic, visr, scratch\n" "$METHOD" >&2
        exit 1
        ;;
esac
