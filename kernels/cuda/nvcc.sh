#!/bin/sh
# nvcc.sh REPORT COMMAND... - run a compiler; what it says goes to the report, and to the screen where
# it fails.
report=$1
shift
"$@" 2>"$report" || { cat "$report" >&2; rm -f "$report"; exit 1; }
