# SPDX-License-Identifier: MIT
# `cmake --install` copies headers, libraries, the command `slabmalloc` with its completions, the
# CMake package, the pkg-config files and the manual pages. They find each other by relative paths,
# so an installed tree can be moved. If a folder of the libraries or headers is absolute, they find
# each other there instead.

include(CMakePackageConfigHelpers)

# The components are those of Debian's packages: runtime, dev and tools.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/slabmalloc DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        COMPONENT dev FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")

# Part of another project, these sources leave that project's own folder of documents alone.
set(documents_folder ${CMAKE_INSTALL_DATAROOTDIR}/doc/slabmalloc)
if(PROJECT_IS_TOP_LEVEL)
  set(documents_folder ${CMAKE_INSTALL_DOCDIR})
endif()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${documents_folder} COMPONENT license)

set(manual_sections 1 3 7)
set(manual_components tools dev runtime)
set(installed_targets slabmalloc_core)
if(SLABMALLOC_BUILD_MALLOC)
  foreach(suffix IN ITEMS "" _hardened)
    list(APPEND installed_targets slabmalloc_malloc${suffix} slabmalloc_malloc_static${suffix}
         slabmalloc_override${suffix})
    install(FILES ${PROJECT_BINARY_DIR}/slabmalloc${suffix}_override.o
            DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
  endforeach()
  foreach(section component IN ZIP_LISTS manual_sections manual_components)
    install(FILES ${PROJECT_SOURCE_DIR}/docs/slabmalloc.${section}
            DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} COMPONENT ${component})
  endforeach()

  set(command_sources ${PROJECT_SOURCE_DIR}/tools/command)
  get_target_property(interface_version slabmalloc_malloc SOVERSION)
  if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR} OR IS_ABSOLUTE ${CMAKE_INSTALL_BINDIR})
    set(library_folder ${CMAKE_INSTALL_FULL_LIBDIR})
  else()
    cmake_path(SET library_folder "/${CMAKE_INSTALL_LIBDIR}")
    cmake_path(RELATIVE_PATH library_folder BASE_DIRECTORY "/${CMAKE_INSTALL_BINDIR}")
    string(PREPEND library_folder "$here/")
  endif()
  configure_file(${command_sources}/slabmalloc.in ${PROJECT_BINARY_DIR}/slabmalloc @ONLY)
  install(PROGRAMS ${PROJECT_BINARY_DIR}/slabmalloc DESTINATION ${CMAKE_INSTALL_BINDIR}
          COMPONENT tools)
  install(FILES ${command_sources}/slabmalloc.bash RENAME slabmalloc
          DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/bash-completion/completions COMPONENT tools)
  install(FILES ${command_sources}/_slabmalloc
          DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/zsh/site-functions COMPONENT tools)
  install(FILES ${command_sources}/slabmalloc.fish
          DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/fish/vendor_completions.d COMPONENT tools)
endif()
if(SLABMALLOC_BUILD_KERNEL)
  list(APPEND installed_targets slabmalloc_kernel)
endif()
install(TARGETS ${installed_targets} EXPORT slabmallocTargets
        LIBRARY COMPONENT runtime NAMELINK_COMPONENT dev ARCHIVE COMPONENT dev)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/slabmalloc)
install(EXPORT slabmallocTargets NAMESPACE slabmalloc:: DESTINATION ${package_folder}
        COMPONENT dev)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/slabmallocConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/slabmallocConfig.cmake
                              INSTALL_DESTINATION ${package_folder}
                              NO_SET_AND_CHECK_MACRO)
set(independent "")
if(NOT SLABMALLOC_BUILD_MALLOC AND NOT SLABMALLOC_BUILD_KERNEL)
  set(independent ARCH_INDEPENDENT)
endif()
write_basic_package_version_file(${PROJECT_BINARY_DIR}/slabmallocConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion ${independent})
install(FILES ${PROJECT_BINARY_DIR}/slabmallocConfig.cmake
              ${PROJECT_BINARY_DIR}/slabmallocConfigVersion.cmake
        DESTINATION ${package_folder} COMPONENT dev)

set(pkgconfig_folder ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(IS_ABSOLUTE ${pkgconfig_folder})
  set(pkgconfig_prefix ${CMAKE_INSTALL_PREFIX})
else()
  cmake_path(SET root_folder "/")
  cmake_path(RELATIVE_PATH root_folder BASE_DIRECTORY "/${pkgconfig_folder}"
             OUTPUT_VARIABLE pkgconfig_prefix)
  string(PREPEND pkgconfig_prefix "\${pcfiledir}/")
endif()
foreach(folder IN ITEMS INCLUDEDIR LIBDIR)
  set(pkgconfig_${folder} "\${prefix}")
  cmake_path(APPEND pkgconfig_${folder} ${CMAKE_INSTALL_${folder}})
endforeach()
set(pkgconfig_modules slabmalloc-core)
if(SLABMALLOC_BUILD_MALLOC)
  list(APPEND pkgconfig_modules slabmalloc)
endif()
foreach(module IN LISTS pkgconfig_modules)
  configure_file(${CMAKE_CURRENT_LIST_DIR}/${module}.pc.in ${PROJECT_BINARY_DIR}/${module}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${module}.pc DESTINATION ${pkgconfig_folder}
          COMPONENT dev)
endforeach()
