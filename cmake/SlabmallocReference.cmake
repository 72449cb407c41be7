# SPDX-License-Identifier: MIT
# The target api-reference: the public headers as HTML, in reference/html of the build directory. A
# warning of Doxygen fails it.
find_package(Doxygen QUIET)
if(NOT DOXYGEN_FOUND)
  add_custom_target(api-reference
    COMMAND ${CMAKE_COMMAND} -E echo "doxygen is missing; on Debian: apt-get install doxygen"
    COMMAND ${CMAKE_COMMAND} -E false)
  return()
endif()
set(DOXYGEN_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/reference)
set(DOXYGEN_FILE_PATTERNS *.hpp *.h)
set(DOXYGEN_FULL_PATH_NAMES YES)
set(DOXYGEN_STRIP_FROM_PATH ${PROJECT_SOURCE_DIR}/include)
set(DOXYGEN_STRIP_FROM_INC_PATH ${PROJECT_SOURCE_DIR}/include)
# The first sentence of a docstring is its summary; types without one are listed too.
set(DOXYGEN_JAVADOC_AUTOBRIEF YES)
set(DOXYGEN_EXTRACT_ALL YES)
set(DOXYGEN_GENERATE_LATEX NO)
set(DOXYGEN_HAVE_DOT NO)
set(DOXYGEN_QUIET YES)
set(DOXYGEN_WARN_AS_ERROR FAIL_ON_WARNINGS)
doxygen_add_docs(api-reference include/slabmalloc
                 WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
                 COMMENT "Writing the API reference")
