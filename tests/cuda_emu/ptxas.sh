#!/bin/bash
# ptxas.sh REPORT... - what ptxas -v said of each kernel: no spills anywhere, and no stack but where
# one is known and harmless. A stack frame is local memory: registers that went to device memory.
allowed='unary_kernel'  # sinf and cosf reduce large arguments there, which activations never are
sources=$(dirname "$0")/../../kernels/cuda
passed=0 failed=0
for report in "$@"; do
  name=$(basename "$report" .ptxas)
  own=$(grep -c __global__ "$sources/$name.cu")  # some files only choose among kernels of others
  bad=$(awk -v allowed="$allowed" -v own="$own" '
    /Compiling entry function/ { name = $7; arch = $9 }
    / bytes stack frame, / {
      kernels++
      if ($1 + 0 > 0 && name !~ allowed) print name " for " arch ": " $1 " bytes of stack"
      if ($5 + $9 > 0) print name " for " arch ": spills " $5 " bytes, reads back " $9
    }
    END { if (!kernels && own > 0) print "no kernels in the report" }' "$report")
  if [ -z "$bad" ]; then
    passed=$((passed + 1))
    echo "ok    $name.cu: $(grep -c 'bytes stack frame' "$report") kernels without spills"
  else
    failed=$((failed + 1))
    echo "FAIL  $name.cu: $bad"
  fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
