#!/bin/bash
# module.sh libcft_cuda.so cuda_ops - what the built module is: it needs no library of NVIDIA's to be
# opened, exports one function, and has code for each architecture and PTX for newer ones; asked for a
# GPU where there is none it says what is missing.
module=$1 ops=$2 passed=0 failed=0
check() {
  if [ "$1" = 0 ]; then passed=$((passed + 1)); echo "ok    $2"; else failed=$((failed + 1)); echo "FAIL  $2: $3"; fi
}
needed=$(readelf -d "$module" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | tr '\n' ' ')
case $needed in *cuda* | *cublas* | *cudnn* | *nccl* | *stdc++*) bad=1 ;; *) bad=0 ;; esac
check $bad "it needs only the system's libraries" "$needed"
exported=$(readelf --dyn-syms -W "$module" | awk '$5 == "GLOBAL" && $6 == "DEFAULT" && $7 != "UND" { print $8 }' | sort | tr '\n' ' ')
[ "$exported" = "cft_cuda_open cft_cuda_report " ]
check $? "it exports what opens and what reports, and nothing else" "$exported"
said=$("$ops" --module "$module" no_such_case 2>&1 | head -1)
case $said in
  "skip  no CUDA device: "*"no NVIDIA driver here"* | "skip  no CUDA device: "*"finds no GPU"*) check 0 "without a GPU: ${said#skip  }" ;;
  "cuda:0: "*) check 0 "there is a GPU: $said" ;;
  *) check 1 "without a GPU it says so" "$said" ;;
esac
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
