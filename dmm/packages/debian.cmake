# The Debian package, made by `cpack -G DEB` in the build directory: everything that is installed,
# in one package. Included from the top.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME dmm)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "The dmm maintainers <maintainers@dmm.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Durable Materialization Machine: reality equal to what was declared")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
  "A framework and tools beside a NATS JetStream server: materializers are run,\nretried and shared by workers until reality is as declared. This package has the\nlibrary, its headers, the command line tool, a systemd unit, alert rules and a\ndashboard.")
# What the tool needs to run, and what programs of others need beside that.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
if(TARGET dmm_service)
  set(CPACK_DEBIAN_PACKAGE_DEPENDS "libcpp-httplib0.11")
endif()
# What is needed to build such programs.
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "nlohmann-json3-dev, libfmt-dev, libnats-dev, libssl-dev, \
libsimdjson-dev, libyaml-cpp-dev, libcpp-httplib-dev, libpqxx-dev, pkg-config")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "nats-server, postgresql, prometheus")
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/strip_archives.cmake)
include(CPack)
