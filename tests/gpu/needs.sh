#!/bin/bash
# needs.sh FILE... - the newest symbol versions of the C and C++ libraries that these programs and libraries want, and what
# a bundle takes along with them; none may be newer than Ubuntu 22.04's: GLIBC_2.35, GLIBCXX_3.4.30, CXXABI_1.3.13.
# needs.sh --libraries FILE... - the libraries that a bundle takes along, one a line: all that the files load but what every
# machine has, and must have of its own: the C library, those of compilers that a bare system has, zlib. OpenMP's is taken
# along: only a compiler brings it.
set -uo pipefail
libraries() {
  ldd "$@" | awk '$3 ~ /^\// { print $3 }' | sort -u |
    grep -vE '/(libc|libm|libdl|libpthread|librt|ld-linux[^/]*|libstdc\+\+|libgcc_s|libz)\.so'
}
if [[ ${1-} == --libraries ]]; then
  shift
  libraries "$@"
  exit
fi
declare -A most=([GLIBC]=2.35 [GLIBCXX]=3.4.30 [CXXABI]=1.3.13)
passed=0 failed=0
(($#)) || { echo "needs.sh: which files?" >&2; exit 2; }
for file in "$@" $(libraries "$@"); do
  said='' bad=''
  symbols=$(objdump -T "$file") || bad=" cannot be read"
  for name in GLIBC GLIBCXX CXXABI; do
    newest=$(grep -oE "\b${name}_[0-9.]+" <<<"$symbols" | sed "s/^${name}_//" | sort -uV | tail -n 1)
    [[ $newest ]] || continue
    said+=" ${name}_$newest"
    [[ $(printf '%s\n' "$newest" "${most[$name]}" | sort -V | tail -n 1) == "${most[$name]}" ]] ||
      bad+=" ${name}_$newest is newer than ${most[$name]}"
  done
  if [[ $bad ]]; then
    failed=$((failed + 1))
    echo "FAIL  $file:$bad"
  else
    passed=$((passed + 1))
    echo "ok    $file:${said:- nothing of these}"
  fi
done
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
