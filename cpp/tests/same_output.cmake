# cmake -DONE=program -DOTHER=program -P same_output.cmake: fails unless both print the same.
# With -DEMULATOR=command they run under it.
foreach(which ONE OTHER)
  execute_process(COMMAND ${EMULATOR} "${${which}}" OUTPUT_VARIABLE output_${which} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
if(output_ONE STREQUAL "" OR NOT output_ONE STREQUAL output_OTHER)
  message(FATAL_ERROR "${ONE} printed:\n${output_ONE}\n${OTHER} printed:\n${output_OTHER}")
endif()
