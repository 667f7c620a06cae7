#!/bin/sh
# What runs on a CUDA device, checked and measured in at most five minutes: sh scripts/gpu_check.sh [OUT] [part=...]
#   part=tests    the tests that need a GPU
#   part=speed    gradient steps, environment steps and epochs per second, with and without graphs
#   part=train    a run that changes the device, then CSF on Ant for the time that is left
#   part=pixels   learning from images, two minutes: gradient steps, replay on the GPU and in host memory, frames per
#                 second of every environment and renderer; installs what images need first
# Without a part, the first three. OUT (gpu_check) gets at most eight files, table.md and table.json among them; a part
# run alone replaces its own rows there.
set -eu
out=gpu_check part=all
for word; do
    case $word in
        part=tests | part=speed | part=train | part=pixels) part=${word#part=} ;;
        part=*) printf 'csf: part is %s; accepted: tests, speed, train, pixels\n' "${word#part=}" >&2; exit 1 ;;
        *) out=$word ;;
    esac
done
case $out in /*) ;; *) out=$PWD/$out ;; esac
unset CDPATH
cd "$(dirname "$0")/.."
. scripts/lib/python.sh
case $part in
    pixels)
        csf_need_images
        csf_need_images env.renderer=warp
        ;;
esac
exec "$PYTHON" tests/benchmark/gpu_check.py --out "$out" --part "$part"
