# SPDX-License-Identifier: MIT
# Compresses the manual pages that cpack is about to pack.
file(GLOB_RECURSE pages ${CPACK_TEMPORARY_DIRECTORY}/slabmalloc.[0-9])
foreach(page IN LISTS pages)
  file(ARCHIVE_CREATE OUTPUT ${page}.gz PATHS ${page} FORMAT raw COMPRESSION GZip
       COMPRESSION_LEVEL 9)
  file(CHMOD ${page}.gz PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
  file(REMOVE ${page})
endforeach()
