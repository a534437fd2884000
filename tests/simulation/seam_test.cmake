# What waits, starts a thread or looks at a clock in dmm/ does so through dmm/internal/runtime.h, or it
# would not be simulated. What talks to real servers and people is not.
# cmake -DROOT=<source directory> -P seam_test.cmake
file(GLOB_RECURSE files RELATIVE ${ROOT} ${ROOT}/dmm/*.h ${ROOT}/dmm/*.cc)
list(FILTER files EXCLUDE REGEX "^dmm/(cli|nats|postgres|resource|service)/")
list(FILTER files EXCLUDE REGEX "^dmm/internal/runtime\\.(h|cc)$")
list(FILTER files EXCLUDE REGEX "^dmm/testing/internal/scheduler\\.(h|cc)$")
# Processes and ports of the system.
list(FILTER files EXCLUDE REGEX "^dmm/testing/(child_process|free_port|nats_server|postgres_server)\\.(h|cc)$")
set(banned "(steady|system|high_resolution)_clock::now\\(|std::condition_variable|std::j?thread[^_]|std::async|std::promise|std::future|std::latch|std::barrier|_semaphore|sleep_for|sleep_until|random_device")
list(LENGTH files count)
if(count LESS 50)
  message(FATAL_ERROR "only ${count} files under ${ROOT}/dmm: this looks at the wrong place")
endif()
set(found "")
foreach(file IN LISTS files)
  file(STRINGS ${ROOT}/${file} lines REGEX "${banned}")
  foreach(line IN LISTS lines)
    string(APPEND found "\n  ${file}: ${line}")
  endforeach()
endforeach()
if(found)
  message(FATAL_ERROR "not through dmm/internal/runtime.h:${found}")
endif()
