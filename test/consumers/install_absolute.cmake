# SPDX-License-Identifier: MIT
# Installs to FOLDER what BUILD has built, with absolute folders for libraries and headers, as Nix
# has them. The built files do not depend on these folders.
file(REMOVE_RECURSE ${FOLDER} ${FOLDER}.build)
set(build ${FOLDER}.build)
execute_process(
  COMMAND ${CMAKE_COMMAND} -S ${SOURCE} -B ${build} -G ${GENERATOR} ${COMPILERS}
          -DCMAKE_INSTALL_PREFIX=${FOLDER}
          -DCMAKE_INSTALL_LIBDIR=${FOLDER}/libraries/lib
          -DCMAKE_INSTALL_INCLUDEDIR=${FOLDER}/development/headers
          -DSLABMALLOC_BUILD_TESTS=OFF -DSLABMALLOC_BUILD_EXAMPLES=OFF
          -DSLABMALLOC_BUILD_BENCHMARKS=OFF
  COMMAND_ERROR_IS_FATAL ANY)
file(GLOB built ${BUILD}/libslabmalloc*.so* ${BUILD}/libslabmalloc*.a ${BUILD}/*_override.o)
file(COPY ${built} DESTINATION ${build})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${build} COMMAND_ERROR_IS_FATAL ANY)
