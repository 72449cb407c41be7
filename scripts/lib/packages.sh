# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Installs missing Debian packages that a script needs, or names them. Source it; it defines
# functions and runs nothing.
#
#   ensure_packages cmake:cmake libgtest-dev:/usr/include/gtest/gtest.h spin:spin
#
# Each argument is PACKAGE or PACKAGE:PROBE. PROBE is a command or an absolute path. If it exists,
# the package counts as present, so the check also works on other systems. Without a probe the
# function asks Debian; on other systems the package counts as present.

# Succeeds if the package of the argument is present.
package_present() {
  local package=${1%%:*} probe=""
  [[ $1 == *:* ]] && probe=${1#*:}
  case $probe in
    "")
      ! command -v dpkg-query >/dev/null 2>&1 ||
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed
      ;;
    /*) [[ -e $probe ]] ;;
    *) command -v "$probe" >/dev/null 2>&1 ;;
  esac
}

# Makes every named package present. On failure prints the missing ones and the reason.
ensure_packages() {
  local argument
  local -a missing=() as_root=()
  for argument in "$@"; do
    package_present "$argument" || missing+=("${argument%%:*}")
  done
  ((${#missing[@]} == 0)) && return 0

  if ! command -v apt-get >/dev/null 2>&1 || [[ ! -e /etc/debian_version ]]; then
    printf 'Missing, and this is not a Debian system, so nothing was installed.\n' >&2
    printf 'Please install the equivalents of these Debian packages: %s\n' "${missing[*]}" >&2
    return 1
  fi
  if ((EUID != 0)); then
    as_root=(sudo -n)
    [[ -t 0 ]] && as_root=(sudo)
    if ! "${as_root[@]}" true 2>/dev/null; then
      printf 'Missing, and neither root nor sudo is at hand. Please run:\n  apt-get install %s\n' \
        "${missing[*]}" >&2
      return 1
    fi
  fi

  printf 'Installing: %s\n' "${missing[*]}"
  install_packages "${missing[@]}" && return 0
  printf 'apt-get could not install: %s\n' "${missing[*]}" >&2
  return 1
}

# Makes present what the preset `release` needs, and the packages of the arguments.
ensure_build_packages() {
  ensure_packages cmake:cmake ninja-build:ninja g++:g++ libgtest-dev:/usr/include/gtest/gtest.h \
    libbenchmark-dev:/usr/include/benchmark/benchmark.h "$@"
}

# Runs apt-get through the caller's as_root; shows its output only on failure.
install_packages() {
  local log
  local -a apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
    apt-get -q -y -o DPkg::Lock::Timeout=300)
  log=$(mktemp)
  if { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "$@"; } \
    </dev/null >"$log" 2>&1; then
    rm -f "$log"
    return 0
  fi
  tail -n 20 "$log" >&2
  rm -f "$log"
  return 1
}
