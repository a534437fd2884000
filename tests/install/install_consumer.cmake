# Goal: an installed dmm can be used through CMake and through pkg-config.
# Method: installs the build into an empty prefix, moves that prefix (a package must not remember
# where it was built), builds the consumer in both ways, runs it, builds the programs of the
# README and of the page about resources, and asks for wrong versions.
#
# BUILD CONFIG CONSUMER README RESOURCES SCRATCH GENERATOR CXX LIBDIR VERSION   given by tests/install/CMakeLists.txt

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE out)
  if(NOT code EQUAL 0)
    string(JOIN " " command ${ARGV})
    message(FATAL_ERROR "${command}\nended with ${code}:\n${out}")
  endif()
endfunction()

# The first block of C++ of a page.
function(write_program page file)
  file(READ ${page} text)
  string(FIND "${text}" "```cpp\n" begin)
  math(EXPR begin "${begin} + 7")
  string(SUBSTRING "${text}" ${begin} -1 text)
  string(FIND "${text}" "```" end)
  string(SUBSTRING "${text}" 0 ${end} text)
  file(WRITE ${file} "${text}")
endfunction()

set(prefix ${SCRATCH}/prefix)
file(REMOVE_RECURSE ${SCRATCH})
run(${CMAKE_COMMAND} --install ${BUILD} --config "${CONFIG}" --prefix ${SCRATCH}/first)
file(RENAME ${SCRATCH}/first ${prefix})

message(STATUS "with find_package")
run(${CMAKE_COMMAND} -S ${CONSUMER} -B ${SCRATCH}/cmake -G ${GENERATOR}
  -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${SCRATCH}/cmake)
run(${SCRATCH}/cmake/consumer)

message(STATUS "with pkg-config")
find_program(PKG_CONFIG pkg-config REQUIRED)
set(ENV{PKG_CONFIG_PATH} ${prefix}/${LIBDIR}/pkgconfig)
execute_process(COMMAND ${PKG_CONFIG} --define-variable=prefix=${prefix} --cflags --libs dmm
  OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${flags}")
run(${CXX} -std=c++20 ${CONSUMER}/main.cc -o ${SCRATCH}/with_pkg_config ${flags})
run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${prefix}/${LIBDIR} ${SCRATCH}/with_pkg_config)
if(EXISTS ${prefix}/${LIBDIR}/pkgconfig/dmm-postgres.pc)  # built with DMM_POSTGRES
  execute_process(
    COMMAND ${PKG_CONFIG} --define-variable=prefix=${prefix} --cflags --libs dmm-postgres
    OUTPUT_VARIABLE more_flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(more_flags UNIX_COMMAND "${more_flags}")
  run(${CXX} -std=c++20 -DWITH_POSTGRES ${CONSUMER}/main.cc -o ${SCRATCH}/with_dmm_postgres
    ${more_flags})
  run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${prefix}/${LIBDIR} ${SCRATCH}/with_dmm_postgres)
endif()
if(EXISTS ${prefix}/${LIBDIR}/pkgconfig/dmm-resource.pc)
  execute_process(
    COMMAND ${PKG_CONFIG} --define-variable=prefix=${prefix} --cflags --libs dmm-resource
    OUTPUT_VARIABLE more_flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(more_flags UNIX_COMMAND "${more_flags}")
  run(${CXX} -std=c++20 -DWITH_RESOURCE ${CONSUMER}/main.cc -o ${SCRATCH}/with_dmm_resource
    ${more_flags})
  run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${prefix}/${LIBDIR} ${SCRATCH}/with_dmm_resource)
  write_program(${RESOURCES} ${SCRATCH}/billing.cc)
  run(${CXX} -std=c++20 ${SCRATCH}/billing.cc -o ${SCRATCH}/billing ${more_flags})
endif()
execute_process(COMMAND ${PKG_CONFIG} --modversion dmm
  OUTPUT_VARIABLE said OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
if(NOT said STREQUAL VERSION)
  message(FATAL_ERROR "dmm.pc says version ${said}, the project ${VERSION}")
endif()

message(STATUS "the program of the README")
write_program(${README} ${SCRATCH}/readme.cc)
run(${CXX} -std=c++20 ${SCRATCH}/readme.cc -o ${SCRATCH}/readme ${flags})

message(STATUS "with a version that does not fit")
file(WRITE ${SCRATCH}/newer/CMakeLists.txt
  "cmake_minimum_required(VERSION 3.25)\nproject(newer LANGUAGES CXX)\nfind_package(dmm 99.0)\n"
  "if(dmm_FOUND)\n  message(FATAL_ERROR \"dmm ${VERSION} was taken for 99.0\")\nendif()\n")
run(${CMAKE_COMMAND} -S ${SCRATCH}/newer -B ${SCRATCH}/newer/build -G ${GENERATOR}
  -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_PREFIX_PATH=${prefix})
