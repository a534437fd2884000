# What `cmake --install` puts where, and how other projects find it: find_package(dmm) with the
# targets dmm::dmm, dmm::engine, dmm::testing, dmm::postgres, dmm::resource and dmm::service, and
# pkg-config dmm, dmm-postgres, dmm-resource and dmm-service.
# Included from the top.
include(CMakePackageConfigHelpers)

set(dmm_libraries dmm dmm_engine dmm_testing)
if(TARGET dmm_postgres)
  list(APPEND dmm_libraries dmm_postgres dmm_resource)
endif()
if(TARGET dmm_service)
  list(APPEND dmm_libraries dmm_service)
endif()
# In a folder of its own, so that "engine/..." does not lie about in the system's include folder;
# includes read the same as in this tree.
set(DMM_INSTALL_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR}/dmm)
set(DMM_INSTALL_CMAKEDIR ${CMAKE_INSTALL_LIBDIR}/cmake/dmm)

install(TARGETS ${dmm_libraries} EXPORT dmmTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  FILE_SET HEADERS DESTINATION ${DMM_INSTALL_INCLUDEDIR})
if(TARGET dmm_cli)
  install(TARGETS dmm_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  set(texts ${PROJECT_BINARY_DIR}/dmm/cli/dmm)
  install(FILES ${texts}.man DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 RENAME dmm.1)
  install(FILES ${texts}.bash
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME dmm)
  install(FILES ${texts}.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions RENAME _dmm)
  install(FILES ${texts}.fish
    DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d RENAME dmm.fish)
endif()
install(EXPORT dmmTargets NAMESPACE dmm:: DESTINATION ${DMM_INSTALL_CMAKEDIR})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/dmmConfig.cmake.in
  ${PROJECT_BINARY_DIR}/dmmConfig.cmake INSTALL_DESTINATION ${DMM_INSTALL_CMAKEDIR}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/dmmConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/dmmConfig.cmake ${PROJECT_BINARY_DIR}/dmmConfigVersion.cmake
  DESTINATION ${DMM_INSTALL_CMAKEDIR})

# The .pc files find the prefix from where they lie, so that a package may be put anywhere.
file(RELATIVE_PATH DMM_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" DMM_PC_PREFIX "${DMM_PC_PREFIX}")

# Who links a static dmm links what it uses as well; a shared one brings that along.
get_target_property(dmm_type dmm TYPE)
set(DMM_PC_REQUIRES "nlohmann_json >= 3.11, fmt >= 9")
if(dmm_type STREQUAL "STATIC_LIBRARY")
  string(APPEND DMM_PC_REQUIRES ", libnats, libcrypto, simdjson")
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/dmm.pc.in ${PROJECT_BINARY_DIR}/dmm.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/dmm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(TARGET dmm_postgres)
  set(DMM_POSTGRES_PC_REQUIRES "dmm = ${PROJECT_VERSION}")
  if(dmm_type STREQUAL "STATIC_LIBRARY")
    string(APPEND DMM_POSTGRES_PC_REQUIRES ", libpqxx, libpq")
  endif()
  configure_file(${CMAKE_CURRENT_LIST_DIR}/postgres/dmm-postgres.pc.in
    ${PROJECT_BINARY_DIR}/dmm-postgres.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/dmm-postgres.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  set(DMM_RESOURCE_PC_REQUIRES "dmm-postgres = ${PROJECT_VERSION}")
  configure_file(${CMAKE_CURRENT_LIST_DIR}/resource/dmm-resource.pc.in
    ${PROJECT_BINARY_DIR}/dmm-resource.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/dmm-resource.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
if(TARGET dmm_service)
  set(DMM_SERVICE_PC_REQUIRES "dmm = ${PROJECT_VERSION}")
  if(dmm_type STREQUAL "STATIC_LIBRARY")
    string(APPEND DMM_SERVICE_PC_REQUIRES ", yaml-cpp, cpp-httplib")
  endif()
  configure_file(${CMAKE_CURRENT_LIST_DIR}/service/dmm-service.pc.in
    ${PROJECT_BINARY_DIR}/dmm-service.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/dmm-service.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  set(share ${CMAKE_CURRENT_LIST_DIR}/service/share)
  install(FILES ${share}/dmm@.service DESTINATION lib/systemd/system)
  install(FILES ${share}/alerts.yaml ${share}/dashboard.json ${share}/nats-permissions.conf
    ${share}/Containerfile DESTINATION ${CMAKE_INSTALL_DATADIR}/dmm)
endif()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# `cmake --build BUILD --target all_verify_interface_header_sets` compiles every installed header
# alone.
set_target_properties(${dmm_libraries} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
