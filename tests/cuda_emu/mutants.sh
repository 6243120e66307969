#!/bin/bash
# mutants.sh ENV LIST [PATTERN] - each line of the list makes one line of a kernel wrong. The file is
# compiled as for the check build, linked with everything else to a module, and the cases that the line
# names are run (`collectives`: that program): if they all pass, the mutant has got away and the suite fails. Two at a time.
#   PATTERN  only the mutants whose line matches it
set -u
# shellcheck disable=SC1090
. "$1"
list=$2 pattern=${3-.}
rm -rf "$WORK"
mkdir -p "$WORK"

# One mutant: number, changed file, file to compile, cases, what is wrong, sed expression.
mutant() {
  local dir=$WORK/$1 changed=$2 source=$3 cases=$4 what=$5 expression=$6
  mkdir -p "$dir"
  cp "$KERNELS"/*.cu "$KERNELS"/*.cuh "$KERNELS"/*.h "$KERNELS"/*.c "$KERNELS"/*.cpp "$dir"
  sed -i "$expression" "$dir/$changed"
  if cmp -s "$dir/$changed" "$KERNELS/$changed"; then
    echo "FAIL  $changed: $what: the mutation changes nothing"
    return
  fi
  local stem=${source%.*} compile=("$CXX" -std=c++17 -x c++ "${KERNEL_FLAGS[@]}")
  [[ $source == *.c ]] && compile=("$CC" -std=gnu11)
  if ! "${compile[@]}" "${FLAGS[@]}" -I"$dir" "${INCLUDES[@]}" -c "$dir/$source" -o "$dir/$stem.o" \
    >"$dir/log" 2>&1; then
    echo "FAIL  $changed: $what: does not compile: $(grep -m1 error "$dir/log")"
    return
  fi
  local objects=("$dir/$stem.o") o
  for o in "${OBJECTS[@]}"; do [[ $o == */cuda/"$source".o ]] || objects+=("$o"); done
  if ! "$CXX" -shared -Wl,--strip-debug -fsanitize=undefined "${objects[@]}" -o "$dir/mutant.so" \
    -ldl -lpthread >"$dir/log" 2>&1; then
    echo "FAIL  $changed: $what: does not link: $(tail -1 "$dir/log")"
    return
  fi
  local run=("$OPS" --module "$dir/mutant.so" --repeats 2 "$cases")
  [[ $cases == collectives ]] && run=("$COLLECTIVES" --module "$dir/mutant.so")
  # In a shell of its own, whose word that it was aborted nobody needs.
  bash -c 'export CFT_CACHE=$1/cache; timeout 120 "${@:2}" >"$1/said" 2>&1; exit $?' \
    mutant "$dir" "${run[@]}" 2>/dev/null
  local status=$? reason
  reason=$(grep -m1 -E 'cuda_emu: |runtime error' "$dir/said" || grep -m1 FAIL "$dir/said")
  if [[ $status != 0 && $status != 124 && -n $reason ]]; then
    echo "ok    $changed: $what -> ${reason:0:120}"
  else
    echo "FAIL  $changed: $what: not noticed"
  fi
  rm -rf "$dir"
}

n=0
while IFS='|' read -r files cases what expression; do
  [[ $files == \#* || -z ${files// /} ]] && continue
  [[ "$files|$cases|$what" =~ $pattern ]] || continue
  read -r changed source <<<"$files"
  read -r cases <<<"$cases"  # without the blanks of the table
  read -r what <<<"$what"
  n=$((n + 1))
  mutant $n "$changed" "${source:-$changed}" "$cases" "$what" "${expression# }" >"$WORK/$n.result" &
  while (($(jobs -rp | wc -l) >= 2)); do wait -n; done
done <"$list"
wait
cat "$WORK"/*.result | sort -k2,2 -s
passed=$(cat "$WORK"/*.result | grep -c '^ok')
failed=$(cat "$WORK"/*.result | grep -c '^FAIL')
[[ $n == $((passed + failed)) ]] || failed=$((failed + n - passed - failed))
echo "$passed passed, $failed failed, 0 skipped"
[[ $failed == 0 ]]
