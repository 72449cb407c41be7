# SPDX-License-Identifier: MIT
# Completion of slabmalloc(1) for fish.
function __slabmalloc_options
    slabmalloc --list-options 2>/dev/null | string replace -rf '^  ([a-z_]+).*' '$1'
end
complete -c slabmalloc -f
complete -c slabmalloc -s H -l hardened -d 'The hardened library'
complete -c slabmalloc -s s -l stats -d 'Print statistics at exit'
complete -c slabmalloc -s o -l option -x -a '(__slabmalloc_options)' -d 'Set options of the malloc'
complete -c slabmalloc -l list-options -d 'Print all options of the malloc'
complete -c slabmalloc -l library -d 'Print the path of the library'
complete -c slabmalloc -l help -d 'Print a help text'
complete -c slabmalloc -l version -d 'Print the version'
complete -c slabmalloc -a '(__fish_complete_subcommand)'
