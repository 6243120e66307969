#!/bin/bash
# chroot.sh BUNDLE SUITE... - a dry run of a bundle (tests/gpu/bundle.sh) in bare systems, which debootstrap makes: bookworm,
# trixie (Debian 12 and 13), jammy (Ubuntu 22.04). In each: all libraries are found, the demo makes two steps on the CPU, and
# check.sh says that no driver is there and ends with code 3. Wants root, debootstrap and a mirror; CFT_CHROOTS names a
# folder in which the systems are kept.
set -uo pipefail
bundle=$(realpath "${1:?which bundle?}")
shift
kept=${CFT_CHROOTS:-$(mktemp -d)}
mounted=()
leave() {
  for place in ${mounted[@]+"${mounted[@]}"}; do umount "$place" || return; done  # nothing of a mount is removed
  [[ ${CFT_CHROOTS-} ]] || rm -rf --one-file-system "$kept"
}
trap leave EXIT
passed=0 failed=0
check() {  # check WHAT WANTED-CODE COMMAND...: in the chroot, from the bundle's folder, with an empty environment
  local what=$1 wanted=$2 said code
  shift 2
  said=$(chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root /bin/sh -c "cd /root/cft-gpu && $*" 2>&1)
  code=$?
  if [[ $code == "$wanted" ]]; then
    passed=$((passed + 1))
    echo "ok    $suite: $what"
  else
    failed=$((failed + 1))
    printf 'FAIL  %s: %s: code %s, wanted %s\n%s\n' "$suite" "$what" "$code" "$wanted" "$(tail -20 <<<"$said")"
  fi
}
for suite; do
  root=$kept/$suite
  if [[ ! -x $root/bin/sh ]]; then
    debootstrap --variant=minbase "$suite" "$root" >"$kept/$suite.log" 2>&1 ||
      { echo "FAIL  $suite: debootstrap: $(tail -n 1 "$kept/$suite.log")"; failed=$((failed + 1)); continue; }
  fi
  rm -rf "$root/root/cft-gpu"
  zstd -dc "$bundle" | tar -C "$root/root" -xf - || { echo "FAIL  $suite: $bundle cannot be unpacked"; failed=$((failed + 1)); continue; }
  mkdir -p "$root/proc" && mount -t proc proc "$root/proc" && mounted+=("$root/proc")
  [[ -e $root/dev/fd ]] || ln -s /proc/self/fd "$root/dev/fd"
  export_library='LD_LIBRARY_PATH=/root/cft-gpu/lib'
  check "no library is missing" 0 "! $export_library ldd bin/* | grep 'not found'"
  check "cftrun computes" 0 "$export_library bin/cftrun -e 'local cft = require \"cft\"; local x = cft.ones { 3, 3 }
    assert(x:matmul(x):sum():item() == 27)'"
  check "the check says that no driver is there" 3 "bash tests/gpu/check.sh --out /tmp/out 60"
  umount "$root/proc" && mounted=()
done
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
