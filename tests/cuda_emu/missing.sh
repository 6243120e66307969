#!/bin/sh
# missing.sh WHAT - in place of a suite whose tool is not on this machine: skipped, but under CI=true,
# where it has to be, failed.
echo "skip  $1 is not on this machine"
echo "0 passed, 0 failed, 1 skipped"
[ "$CI" != true ]
