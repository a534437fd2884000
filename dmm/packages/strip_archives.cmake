# Run by cpack before it packs: static libraries without their debug information, which is nine
# tenths of them. CPACK_STRIP_FILES does that for programs only.
file(GLOB_RECURSE archives ${CPACK_TEMPORARY_DIRECTORY}/*.a)
find_program(STRIP strip)
if(STRIP)
  foreach(archive ${archives})
    execute_process(COMMAND ${STRIP} --strip-debug ${archive} COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
endif()
