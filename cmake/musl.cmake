# SPDX-License-Identifier: MIT
# A toolchain that builds the malloc for musl on a system of the GNU C library, by Debian's musl-gcc
# (package musl-tools):
#
#   cmake -B build/musl --toolchain cmake/musl.cmake
#
# A system of musl alone, such as Alpine, needs no toolchain file.
#
# musl-gcc compiles C and links; there is no C++ library for it. The malloc needs none: all that it
# includes of the C++ library, such as <cstdint>, is in headers. g++ has them for the GNU C library,
# whose version they ask by a macro that musl lacks.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${CMAKE_HOST_SYSTEM_PROCESSOR})
set(CMAKE_C_COMPILER musl-gcc)
if(NOT CMAKE_CXX_COMPILER)
  set(CMAKE_CXX_COMPILER g++)
endif()
# CMake's test programs, our own tests and the examples would need a C++ library.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
foreach(part IN ITEMS TESTS EXAMPLES BENCHMARKS)
  set(SLABMALLOC_BUILD_${part} OFF CACHE BOOL "They need a C++ library for musl")
endforeach()

# Sets `folders` to those that `compiler` searches for headers of `language`.
function(slabmalloc_header_folders folders compiler language)
  # The words that end the list are those of the C locale.
  execute_process(COMMAND ${CMAKE_COMMAND} -E env LC_ALL=C
                          ${compiler} -x ${language} -E -v /dev/null
                  OUTPUT_QUIET ERROR_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX REPLACE ".*<\\.\\.\\.> search starts here:\n(.*)\nEnd of search list.*" "\\1"
         text "${text}")
  string(REGEX REPLACE "[ \n]+" ";" text "${text}")
  list(REMOVE_ITEM text "")
  set(${folders} ${text} PARENT_SCOPE)
endfunction()
slabmalloc_header_folders(cxx_folders ${CMAKE_CXX_COMPILER} c++)
list(FILTER cxx_folders INCLUDE REGEX "/c[+][+]/")
slabmalloc_header_folders(musl_folders ${CMAKE_C_COMPILER} c)
list(TRANSFORM cxx_folders PREPEND "-isystem ")
list(TRANSFORM musl_folders PREPEND "-isystem ")
list(JOIN cxx_folders " " cxx_folders)
list(JOIN musl_folders " " musl_folders)
set(CMAKE_CXX_FLAGS_INIT
    "-nostdinc ${cxx_folders} ${musl_folders} \"-D__GLIBC_PREREQ(major,minor)=0\"")
