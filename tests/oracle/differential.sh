#!/bin/bash
# Draws N fresh inputs by SEED, and compares what cft makes of them with transformers, tokenizers and datasets:
#   tests/oracle/differential.sh SEED N [CFTRUN [VENV]]
# prints how many are equal, refused, counted and WRONG, with the smallest wrong case of each kind; ends with 1
# where one is WRONG. VENV is what setup.sh made (VENV-t4 stands beside it); by default $CFT_ORACLE. Nothing is fetched.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 4 ]; then
  echo "usage: $0 SEED N [CFTRUN [VENV]]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
cftrun=$(realpath "${3:-$here/../../build/cpu/cftrun}")
venv=$(realpath "${4:-${CFT_ORACLE:?the environment of setup.sh: as the fourth argument, or in CFT_ORACLE}}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The reference's libraries talk; it matters only where they fail.
if ! "$venv/bin/python" "$here/differential.py" "$1" "$2" "$work/cases.jsonl" \
       --t4 "$venv-t4/bin/python" >"$work/log" 2>&1; then
  cat "$work/log" >&2
  exit 3
fi
cd "$here/../.."
"$cftrun" tests/oracle/differential.lua "$work/cases.jsonl"
