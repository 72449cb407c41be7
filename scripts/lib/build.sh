# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Builds in this checkout by the presets of CMakePresets.json, one script at a time. Source it; it
# defines functions and runs nothing.
#
#   build_targets release slabmalloc_malloc core_benchmark
#
# The folder is build/PRESET. It prints the build's output, but that of configuring only on failure.

build_root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)

# Builds the named targets of preset $1. Configures it first if the presets have changed since. Two
# builds of one folder would destroy each other's files, so a building script makes others wait.
build_targets() (
  cd -- "$build_root" && hold_build_folder "$build_root/build" &&
    configure_if_needed "$1" && cmake --build --preset "$1" --parallel "$(nproc)" --target "${@:2}"
)

# Makes folder $1 and keeps other scripts out of it until the calling subshell ends.
hold_build_folder() {
  if ! { mkdir -p -- "$1" && exec 9>"$1/run.lock"; } 2>/dev/null; then
    printf 'cannot write in %s: make it yours, or build in a checkout of your own\n' "$1" >&2
    return 1
  fi
  flock 9
}

# Configures preset $1 of the current folder's checkout.
configure_if_needed() {
  local folder=build/$1 log status=0
  [[ -e $folder/build.ninja && ! CMakePresets.json -nt $folder/CMakeCache.txt ]] && return 0
  printf 'Configuring %s\n' "$folder"
  log=$(mktemp) || return
  cmake --preset "$1" >"$log" 2>&1 || status=$?
  ((status == 0)) || cat -- "$log" >&2
  rm -f -- "$log"
  return "$status"
}
