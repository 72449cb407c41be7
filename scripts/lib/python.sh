# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Finds the Python interpreter for the drivers in tools/, which need more modules than Python's own.
# Source it after packages.sh; it defines functions and runs nothing.
#
#   ensure_python rich && "$python" -I tools/run
#
# Debian's own interpreter comes first: only it can import Debian's packages. The python3 of a
# version manager is a wrapper that changes the environment.

# Sets python to the path of an interpreter that can import each named module, or fails.
find_python() {
  local candidate modules
  # shellcheck disable=SC2034  # python is for the caller
  modules=$(IFS=, && echo "$*")
  for candidate in /usr/bin/python3 python3; do
    # Asks the interpreter for its own path, since the name may belong to a wrapper.
    python=$("$candidate" -I -B -c "import sys, $modules; print(sys.executable)" 2>/dev/null) &&
      return 0
  done
  return 1
}

# Like find_python, but installs Debian's packages of the modules if no interpreter has them.
ensure_python() {
  local module
  local -a packages=(python3:/usr/bin/python3)
  find_python "$@" && return 0
  for module in "$@"; do
    packages+=("python3-$module:/usr/lib/python3/dist-packages/$module")
  done
  ensure_packages "${packages[@]}" >&2 && find_python "$@" && return 0
  printf 'No python3 can import: %s\n' "$*" >&2
  return 1
}
