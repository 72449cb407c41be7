# SPDX-License-Identifier: MIT
# `cpack` makes Debian's packages of a build whose CMAKE_INSTALL_PREFIX is /usr (scripts/package):
#
#   libslabmalloc0.1     the two shared libraries and slabmalloc(7)
#   libslabmalloc-dev    headers, static forms, CMake package, pkg-config files, slabmalloc(3)
#   slabmalloc-tools     the command slabmalloc, its completions and slabmalloc(1)

get_target_property(interface_version slabmalloc_malloc SOVERSION)
set(runtime_package libslabmalloc${interface_version})
set(dev_package libslabmalloc-dev)
set(tools_package slabmalloc-tools)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_VENDOR "the slabmalloc authors")
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/packages)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES TRUE)
set(CPACK_COMPONENTS_ALL runtime dev tools)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEB_COMPONENT_INSTALL TRUE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
# As Debian's own tools: DEBFULLNAME and DEBEMAIL name the packager.
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "slabmalloc authors <slabmalloc@packages.local>")
if(DEFINED ENV{DEBEMAIL} AND DEFINED ENV{DEBFULLNAME})
  set(CPACK_DEBIAN_PACKAGE_MAINTAINER "$ENV{DEBFULLNAME} <$ENV{DEBEMAIL}>")
endif()

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME ${runtime_package})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS TRUE)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA
    ${PROJECT_BINARY_DIR}/package/shlibs ${PROJECT_BINARY_DIR}/package/triggers)
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION
  "slab-based malloc that finds bad frees
A malloc to preload or to link. It keeps one bit for each block, outside of
the memory that it describes. So it finds every bad free, gives single pages
back, and tells exactly what the heap holds. A hardened form stops more
mistakes.")

set(CPACK_DEBIAN_DEV_PACKAGE_NAME ${dev_package})
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS
  "${runtime_package} (= ${PROJECT_VERSION})")
set(CPACK_COMPONENT_DEV_DESCRIPTION
  "slab-based malloc that finds bad frees (development files)
Headers for C and C++, static libraries, an object that replaces a program's
malloc, and files for CMake and pkg-config. The C++ headers serve kernels and
other programs that have zones and pools of their own.")

set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME ${tools_package})
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS ${CPACK_DEBIAN_DEV_PACKAGE_DEPENDS})
set(CPACK_COMPONENT_TOOLS_DESCRIPTION
  "run programs on the slabmalloc malloc
The command slabmalloc runs a program with slabmalloc in place of its malloc,
and sets the malloc's options.")

# What other packages depend on if they link the libraries, and that the loader must learn of them.
set(needs "${interface_version} ${runtime_package} (>= ${PROJECT_VERSION})")
file(WRITE ${PROJECT_BINARY_DIR}/package/shlibs
     "libslabmalloc ${needs}\nlibslabmalloc-hardened ${needs}\n")
file(WRITE ${PROJECT_BINARY_DIR}/package/triggers "activate-noawait ldconfig\n")
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/SlabmallocCompress.cmake)

# Each package has its copyright and changelog, in the places and forms that Debian prescribes.
file(READ ${PROJECT_SOURCE_DIR}/LICENSE license)
string(REGEX MATCH "Copyright[^\n]*" copyright "${license}")
string(REGEX REPLACE "^.*Copyright[^\n]*\n+" "" license "${license}")
string(REGEX REPLACE "\n\n" "\n.\n" license "${license}")
string(REGEX REPLACE "\n(.)" "\n \\1" license "${license}")
string(REGEX REPLACE "^Copyright *(\\([cC]\\))? *" "" copyright "${copyright}")
string(CONCAT text "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
  "Upstream-Name: slabmalloc\n\nFiles: *\nCopyright: ${copyright}\nLicense: Expat\n ${license}")
file(WRITE ${PROJECT_BINARY_DIR}/package/copyright "${text}")
find_program(gzip_program gzip)
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
foreach(component IN ITEMS runtime dev tools)
  set(package ${${component}_package})
  set(changelog ${PROJECT_BINARY_DIR}/package/${package}/changelog)
  string(CONCAT text
    "slabmalloc (${PROJECT_VERSION}) unstable; urgency=medium\n\n"
    "  * Release ${PROJECT_VERSION}: see the CHANGELOG.\n\n"
    " -- ${CPACK_DEBIAN_PACKAGE_MAINTAINER}  ${date}\n")
  file(WRITE ${changelog} "${text}")
  if(gzip_program)
    execute_process(COMMAND ${gzip_program} -9nf ${changelog} COMMAND_ERROR_IS_FATAL ANY)
  endif()
  set(folder ${CMAKE_INSTALL_DATAROOTDIR}/doc/${package})
  install(FILES ${PROJECT_BINARY_DIR}/package/copyright ${changelog}.gz
          DESTINATION ${folder} COMPONENT ${component} EXCLUDE_FROM_ALL)
endforeach()
# CPack always adds scripts that call ldconfig for a shared library, where Debian's tools rely on
# the trigger alone.
file(WRITE ${PROJECT_BINARY_DIR}/package/overrides
     "${runtime_package}: maintscript-calls-ldconfig *\n")
install(FILES ${PROJECT_BINARY_DIR}/package/overrides RENAME ${runtime_package}
        DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/lintian/overrides
        COMPONENT runtime EXCLUDE_FROM_ALL)
include(CPack)
