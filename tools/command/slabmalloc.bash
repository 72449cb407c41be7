# SPDX-License-Identifier: MIT
# Completion of slabmalloc(1) for bash.
_slabmalloc() {
  local word=${COMP_WORDS[COMP_CWORD]} place names
  local words='-H --hardened -s --stats -o --option --list-options --library --help --version'
  COMPREPLY=()
  for ((place = 1; place < COMP_CWORD; ++place)); do
    case ${COMP_WORDS[place]} in
      -o | --option)
        # Bash makes words of `:` and `=`, and of what is between them.
        [[ ${COMP_WORDS[place + 1]} != "=" ]] || ((++place))
        ((++place))
        while [[ ${COMP_WORDS[place + 1]-} == [:=] ]]; do
          ((place += 2))
        done
        ;;
      -*) ;;
      *)
        _command_offset "$place"
        return
        ;;
    esac
  done
  if [[ ${COMP_WORDS[COMP_CWORD - 1]} == @(-o|--option) ]]; then
    names=$(slabmalloc --list-options 2>/dev/null | sed -n 's/^  \([a-z_]\+\).*/\1/p')
    mapfile -t COMPREPLY < <(compgen -W "$names" -- "$word")
  elif [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -c -- "$word")
  fi
}
complete -o default -F _slabmalloc slabmalloc
