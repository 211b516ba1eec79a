#!/bin/sh
# Installs what some tests use of the system, where that can be done unasked: FluidSynth, the reference that they compare
# with, JACK with PortAudio, which plays to nowhere in real time, and Chromium, in which the page is tried.
# Never fails: tests that need what is missing are skipped, and say so.

packages=""
command -v fluidsynth >/dev/null || packages="fluidsynth"
command -v jackd >/dev/null || packages="$packages jackd2"
ldconfig -p 2>/dev/null | grep -q libportaudio || packages="$packages libportaudio2"
command -v chromium >/dev/null || command -v google-chrome >/dev/null || packages="$packages chromium"
[ -z "$packages" ] && exit 0
if ! command -v apt-get >/dev/null; then
    echo "not installed: $packages; tests that need it are skipped"
    exit 0
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n"
    $as_root true 2>/dev/null || { echo "not installed: $packages; tests that need it are skipped"; exit 0; }
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
{ $as_root apt-get update && $as_root apt-get install -y --no-install-recommends $packages; } </dev/null >"$log" 2>&1 ||
    { tail -n 3 "$log"; echo "could not be installed: $packages; tests that need it are skipped"; }
rm -f "$log"
