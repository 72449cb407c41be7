# SPDX-License-Identifier: MIT
# Functions that declare tests.
#
#   slabmalloc_add_test(<name>
#     SOURCES <file>...          relative to the calling folder
#     LIBRARIES <target>...      slabmalloc::core, slabmalloc::malloc, slabmalloc::heap, ...
#                                (heap: all of src/ but the interposing entry points; its
#                                sources are included by "os/os.hpp" and the like)
#     [LABELS <label>...]        further labels; every test has that of its folder
#     [SANITIZERS <name>...]     those of address, undefined, thread that build and run the test;
#                                default all; `none` for tests that run under none of them
#     [ENVIRONMENT <VAR=value>...]
#     [TIMEOUT <seconds>]        per test case, default 60; three times as much if unoptimised
#     [SERIAL])                  runs alone: for tests that measure
#
# builds the GoogleTest program <name>. Each of its cases becomes a ctest named
# <name>.<suite>.<case>. If libslabmalloc is not built, tests that link it are left out. A test has
# the label `once` if the build's configuration cannot change its result.
#
#   slabmalloc_add_fuzz_target(<name>
#     RUNS <number>              of the ctest fuzz.<name>: what takes at most ten seconds
#     SOURCES <file>...
#     LIBRARIES <target>...      slabmalloc::core, slabmalloc::fuzzed_heap, ...
#     [INCLUDES <folder>...])
#
# builds a libFuzzer target, if the build has any (SLABMALLOC_FUZZ). Its ctest makes the same inputs
# each time, from seed 1 and no corpus. `scripts/soak fuzz` makes others, for longer.

find_package(GTest REQUIRED)
find_package(Threads REQUIRED)
include(GoogleTest)

function(slabmalloc_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "SERIAL" "TIMEOUT"
                        "SOURCES;LIBRARIES;LABELS;SANITIZERS;ENVIRONMENT")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
    message(FATAL_ERROR
      "slabmalloc_add_test(${name}): SOURCES are missing or an argument is unknown: "
                        "${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(arg_LIBRARIES MATCHES "slabmalloc::(malloc|override)" AND NOT SLABMALLOC_BUILD_MALLOC)
    return()
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  if(SLABMALLOC_SANITIZER)
    string(REPLACE "," ";" sanitizers "${SLABMALLOC_SANITIZER}")
    foreach(sanitizer IN LISTS sanitizers)
      if(arg_SANITIZERS AND NOT sanitizer IN_LIST arg_SANITIZERS)
        return()
      endif()
    endforeach()
  endif()
  if(CMAKE_BUILD_TYPE STREQUAL "Debug")
    math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 3")
  endif()
  cmake_path(GET CMAKE_CURRENT_SOURCE_DIR FILENAME folder)

  add_executable(${name} ${arg_SOURCES})
  target_compile_features(${name} PRIVATE cxx_std_20)
  # -O3 takes half as long again to compile, and the library itself is compiled with -O2.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O2>)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/test)
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} GTest::gtest_main Threads::Threads)
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60)

  # gtest_discover_tests cannot forward a property with a list as value. So ctest sets the
  # properties after discovery.
  set(properties "TIMEOUT ${arg_TIMEOUT} LABELS \"${folder};${arg_LABELS}\"")
  if(arg_SERIAL)
    string(APPEND properties " RUN_SERIAL TRUE")
  endif()
  if(arg_ENVIRONMENT)
    string(APPEND properties " ENVIRONMENT \"${arg_ENVIRONMENT}\"")
  endif()
  set(properties_file ${CMAKE_CURRENT_BINARY_DIR}/${name}_properties.cmake)
  file(WRITE ${properties_file}
    "set_tests_properties(\${${name}_TESTS} PROPERTIES ${properties})\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${properties_file})
endfunction()

function(slabmalloc_add_fuzz_target name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "RUNS" "SOURCES;LIBRARIES;INCLUDES")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES OR NOT arg_RUNS)
    message(FATAL_ERROR
      "slabmalloc_add_fuzz_target(${name}): SOURCES or RUNS are missing, or an argument is "
      "unknown: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT SLABMALLOC_FUZZ)
    return()
  endif()
  cmake_path(GET CMAKE_CURRENT_SOURCE_DIR FILENAME folder)
  add_executable(${name} ${arg_SOURCES})
  target_compile_features(${name} PRIVATE cxx_std_20)
  target_compile_options(${name} PRIVATE -O1 -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/test ${arg_INCLUDES})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} GTest::gtest Threads::Threads)
  add_test(NAME fuzz.${name}
           COMMAND ${name} -seed=1 -runs=${arg_RUNS} -max_len=1024 -len_control=0 -timeout=60
                   -artifact_prefix=${CMAKE_CURRENT_BINARY_DIR}/${name}-)
  set_tests_properties(fuzz.${name} PROPERTIES LABELS "${folder};fuzz" TIMEOUT 180)
endfunction()
