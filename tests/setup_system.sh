#!/bin/sh
# Installs FluidSynth, the reference that some tests and benchmarks compare with, where that can be done unasked.
# Never fails: tests that need it are skipped where it is missing, and say so.

command -v fluidsynth >/dev/null && exit 0
if ! command -v apt-get >/dev/null; then
    echo "FluidSynth is not installed: tests that need it are skipped"
    exit 0
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n"
    $as_root true 2>/dev/null || { echo "FluidSynth is not installed: tests that need it are skipped"; exit 0; }
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
{ $as_root apt-get update && $as_root apt-get install -y --no-install-recommends fluidsynth; } </dev/null >"$log" 2>&1 ||
    { tail -n 3 "$log"; echo "FluidSynth could not be installed: tests that need it are skipped"; }
rm -f "$log"
