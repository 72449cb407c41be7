# SPDX-License-Identifier: MIT
# Compresses the manual pages that cpack is about to pack, without a time in the result.
file(GLOB_RECURSE pages ${CPACK_TEMPORARY_DIRECTORY}/slabmalloc.[0-9])
foreach(page IN LISTS pages)
  execute_process(COMMAND gzip -9n ${page} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
