#!/bin/bash
# fuzz.sh TEST_GRADE SECONDS [PIECES]: mutated answers against mutated references for SECONDS, in PIECES runs of
# their own, each with other draws. The first fault ends it with code 1; the last line has the sums.
#
#   cmake --preset asan && ninja -C build/asan test_grade && tests/grade/fuzz.sh build/asan/tests/test_grade 1200 8
set -u
if [ $# -lt 2 ] || [ $# -gt 3 ] || ! [[ $2 =~ ^[1-9][0-9]*$ && ${3:-1} =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,3s/^# //p' "$0" >&2
  exit 2
fi
test_grade=$1 pieces=${3:-1}
[ -x "$test_grade" ] || { echo "fuzz.sh: there is no program $test_grade" >&2; exit 4; }
seconds=$(( ($2 + pieces - 1) / pieces )) gradings=0 slowest=0
for ((i = 1; i <= pieces; i++)); do
  out=$(CFT_GRADE_FUZZ=$seconds "$test_grade" mutations 2>&1) || { echo "$out"; echo "piece $i of $pieces failed"; exit 1; }
  line=$(grep -m 1 'gradings,' <<<"$out") || { echo "$out"; echo "piece $i of $pieces graded nothing"; exit 1; }
  echo "piece $i of $pieces, $seconds s: $line"
  read -r n took < <(sed -E 's/^([0-9]+) gradings.* took ([0-9.]+) ms.*/\1 \2/' <<<"$line")
  gradings=$((gradings + n))
  slowest=$(awk -v a="$slowest" -v b="$took" 'BEGIN { print (a > b ? a : b) }')
done
echo "$((pieces * seconds)) s, $gradings gradings, the slowest $slowest ms: no fault"
