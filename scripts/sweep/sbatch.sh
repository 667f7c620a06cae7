#!/bin/sh
# A job of Slurm that goes back to the queue, and resumes, when its time is over or it is preempted:
#   sbatch --time=4:00:00 --cpus-per-task=4 scripts/sweep/sbatch.sh sh scripts/pretrain/csf/csf_ant.sh seed=1
# Slurm sends USR1 two minutes before the end: the run saves and leaves, and this script requeues the job.
#SBATCH --job-name=csf
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -u

if [ $# = 0 ]; then
    echo "csf: no command is given: sbatch scripts/sweep/sbatch.sh sh scripts/pretrain/csf/csf_ant.sh seed=1" >&2
    exit 1
fi
# Slurm signals this shell alone (B:), which passes the signal on.
signal='' run=''
for name in HUP TERM USR1 USR2; do
    # shellcheck disable=SC2064  # expanded now
    trap "signal=$name; [ -z \"\$run\" ] || kill -$name \"\$run\" 2>/dev/null" "$name"
done
"$@" &
run=$!
[ -z "$signal" ] || kill "-$signal" "$run" # it came before the run was known
# A signal interrupts the wait, not the run.
code=0
wait "$run" || code=$?
while kill -0 "$run" 2>/dev/null; do
    code=0
    wait "$run" || code=$?
done
case $signal in
    USR1 | USR2)
        if [ "$code" -gt 128 ]; then
            echo "csf: $signal: job ${SLURM_JOB_ID:-} goes back to the queue" >&2
            exec scontrol requeue "${SLURM_JOB_ID:?is not set: this is no job of Slurm}"
        fi
        ;;
esac
exit "$code"
