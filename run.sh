#!/bin/bash
# Build what is needed and run cftrun:  ./run.sh [ARGUMENT ...]
# Without arguments it runs the demo: a small model learns to criticise arithmetic, on the CPU, in
# two minutes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
from=$PWD
cd "$here"
. scripts/setup.sh
install_packages
build cpu cftrun
build_module
if [[ $# == 0 ]]; then
  exec build/cpu/cftrun --demo recipes/webinstruct.lua
fi
cd "$from"  # paths in arguments are the caller's
exec "$here/build/cpu/cftrun" "$@"
