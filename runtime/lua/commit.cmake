# Writes OUT, a header with CFT_COMMIT: the commit of the sources in ROOT, "-dirty" behind it where files differ
# from it, "unknown" where they are in no repository.
#   cmake -DROOT=... -DOUT=... -P commit.cmake
set(name unknown)
find_program(git git)
if(git)
  execute_process(COMMAND ${git} -C ${ROOT} rev-parse --short=12 HEAD
    OUTPUT_VARIABLE head OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    execute_process(COMMAND ${git} -C ${ROOT} status --porcelain --untracked-files=no
      OUTPUT_VARIABLE changes ERROR_QUIET)
    set(name ${head})
    if(changes)
      string(APPEND name "-dirty")
    endif()
  endif()
endif()
set(text "#define CFT_COMMIT \"${name}\"\n")
set(old "")
if(EXISTS ${OUT})
  file(READ ${OUT} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${OUT} "${text}")
endif()
