# Goal: the Debian package has the library, its headers, the tool, the unit, the alert rules and the
# completions, and what it has works where it was never built.
# Method: cpack makes it from the build; it is unpacked into an empty folder, and from there the tool
# runs, a service of five lines is built by pkg-config and says its version.
#
# BUILD CONFIG SCRATCH CXX VERSION CPACK SERVICE   given by tests/install/CMakeLists.txt

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE out)
  if(NOT code EQUAL 0)
    string(JOIN " " command ${ARGV})
    message(FATAL_ERROR "${command}\nended with ${code}:\n${out}")
  endif()
  set(out "${out}" PARENT_SCOPE)
endfunction()

find_program(DPKG_DEB dpkg-deb)
find_program(PKG_CONFIG pkg-config)
# cpack asks these what the programs in the package need.
find_program(SHLIBDEPS dpkg-shlibdeps)
find_program(FILE_PROGRAM file)
if(NOT DPKG_DEB OR NOT SHLIBDEPS OR NOT FILE_PROGRAM)
  message(STATUS "no package is made here: that needs the Debian packages dpkg-dev and file")
  return()
endif()

file(REMOVE_RECURSE ${SCRATCH})
file(MAKE_DIRECTORY ${SCRATCH})
run(${CPACK} --config ${BUILD}/CPackConfig.cmake -G DEB -C "${CONFIG}" -B ${SCRATCH}/cpack)
file(GLOB package ${SCRATCH}/cpack/dmm_${VERSION}_*.deb)
if(NOT package)
  message(FATAL_ERROR "no package dmm_${VERSION}_*.deb was made")
endif()

message(STATUS "what it says of itself")
run(${DPKG_DEB} --field ${package} Version Depends)
if(NOT out MATCHES "${VERSION}" OR NOT out MATCHES "libc6" OR NOT out MATCHES "libnats")
  message(FATAL_ERROR "version or dependencies are missing:\n${out}")
endif()

message(STATUS "what it has")
set(root ${SCRATCH}/root)
run(${DPKG_DEB} -x ${package} ${root})
set(wanted usr/bin/dmm usr/include/dmm/dmm/bucket.h usr/share/man/man1/dmm.1
  usr/share/bash-completion/completions/dmm usr/share/zsh/site-functions/_dmm
  usr/share/fish/vendor_completions.d/dmm.fish)
if(SERVICE)
  list(APPEND wanted usr/include/dmm/dmm/service/service.h usr/lib/systemd/system/dmm@.service
    usr/share/dmm/alerts.yaml usr/share/dmm/dashboard.json usr/share/dmm/nats-permissions.conf
    usr/share/dmm/Containerfile)
endif()
foreach(file ${wanted})
  if(NOT EXISTS ${root}/${file})
    message(FATAL_ERROR "it lacks ${file}")
  endif()
endforeach()
file(GLOB_RECURSE all LIST_DIRECTORIES false ${root}/*)
foreach(file ${all})
  if(file MATCHES "\\.(pc|cmake|h|service|yaml)$")
    file(STRINGS ${file} traces REGEX "${BUILD}")
    if(traces)
      message(FATAL_ERROR "${file} remembers where it was built:\n${traces}")
    endif()
  endif()
endforeach()

message(STATUS "the tool runs")
run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${root}/usr/lib ${root}/usr/bin/dmm version)
if(NOT out MATCHES "${VERSION}")
  message(FATAL_ERROR "dmm version says:\n${out}")
endif()

if(NOT SERVICE OR NOT PKG_CONFIG)
  return()
endif()
message(STATUS "a service of five lines")
file(WRITE ${SCRATCH}/main.cc [=[
#include "dmm/service/service.h"
struct Lamp {
  std::string id;
  std::string identity() const { return id; }
  void materialize(dmm::Context&) {}
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Lamp, id)
};
int main(int argc, char** argv) {
  return dmm::Service("lamps").run(argc, argv, [](dmm::Bucket& bucket, const dmm::ServiceConfig&) {
    bucket.register_type<Lamp>("lamp");
  });
}
]=])
file(GLOB pkgconfig ${root}/usr/lib/pkgconfig ${root}/usr/lib/*/pkgconfig)
set(ENV{PKG_CONFIG_PATH} ${pkgconfig})
execute_process(COMMAND ${PKG_CONFIG} --cflags --libs dmm-service
  OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${flags}")
run(${CXX} -std=c++20 ${SCRATCH}/main.cc -o ${SCRATCH}/lamps ${flags})
run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${root}/usr/lib ${SCRATCH}/lamps --version)
if(NOT out MATCHES "lamps with dmm ${VERSION}")
  message(FATAL_ERROR "lamps --version says:\n${out}")
endif()
