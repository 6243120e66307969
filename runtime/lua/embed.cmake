# embed.cmake - texts into C, so that cftrun is one file. Run by cmake -P, in two forms:
#
#   cmake -DIN=decls.txt -DOUT=x.c -DSYMBOL=cft_cdef_text -P embed.cmake
#       one text:  const char cft_cdef_text[] = "...";
#   cmake -DROOT=dir -DFILES=a.lua,b/init.lua -DOUT=x.c -P embed.cmake
#       Lua files under ROOT, as the table host_sources of runtime/lua/host.h

# A C string literal with this text, a line per line. `?` is escaped because of trigraphs.
function(literal text out)
  string(REPLACE "\\" "\\\\" text "${text}")
  string(REPLACE "\"" "\\\"" text "${text}")
  string(REPLACE "?" "\\?" text "${text}")
  string(REPLACE "\r" "\\r" text "${text}")
  string(REPLACE "\n" "\\n\"\n\"" text "${text}")
  set(${out} "\"${text}\"" PARENT_SCOPE)
endfunction()

if(DEFINED SYMBOL)
  file(READ "${IN}" text)
  literal("${text}" text)
  file(WRITE "${OUT}" "extern const char ${SYMBOL}[];\nconst char ${SYMBOL}[] =\n${text};\n")
  return()
endif()

string(REPLACE "," ";" FILES "${FILES}")
set(texts "")
set(rows "")
set(count 0)
foreach(path IN LISTS FILES)
  file(READ "${ROOT}/${path}" text)
  literal("${text}" text)
  string(REGEX REPLACE "\\.lua$" "" module "${path}")
  string(REGEX REPLACE "/init$" "" module "${module}")
  string(REPLACE "/" "." module "${module}")
  string(APPEND texts "static const char text_${count}[] =\n${text};\n\n")
  string(APPEND rows "  {\"${module}\", \"@lua/${path}\", text_${count}, sizeof text_${count} - 1},\n")
  math(EXPR count "${count} + 1")
endforeach()

file(WRITE "${OUT}" "// Written by embed.cmake.\n#include \"host.h\"\n\n${texts}"
  "const host_source host_sources[] = {\n${rows}};\nconst size_t host_sources_count = ${count};\n")
