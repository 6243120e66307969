#!/bin/bash
# fuzz.sh SECONDS SEED [CFTRUN]: noise against `cftrun serve` with a tiny model, best of a build with
# sanitizers (build/asan/cftrun). Fails where the server ends, answers 500, says anything, keeps pages of
# sequences that are gone, or does not end with 0. tests/serve/serve.lua runs it for a moment.
set -e
seconds=$1 seed=$2 cftrun=$(realpath "${3:-build/asan/cftrun}")
[ -n "$seed" ] || { echo "usage: $0 SECONDS SEED [CFTRUN]" >&2; exit 2; }
place=$(mktemp -d)
trap 'kill -KILL $server 2>/dev/null || true; rm -rf "$place"' EXIT

"$cftrun" -e 'require "tests.tiny_chat"(arg[1], 256)' "$place/tiny"
: >"$place/out"  # it is read before the server has opened it
"$cftrun" serve "$place/tiny" --port 0 --dtype f32 --memory 64MiB --idle 2 --max-body 64KiB \
  >"$place/out" 2>"$place/err" &
server=$!
for _ in $(seq 200); do
  port=$(sed -n 's/.*:\([0-9]*\)$/\1/p' "$place/out")
  [ -z "$port" ] || break
  sleep 0.1
done
[ -n "$port" ] || { echo "the server did not begin" >&2; cat "$place/err" >&2; exit 1; }
"$(dirname "$cftrun")/tests/http_noise" "$port" "$seconds" "$seed" || { cat "$place/err"; exit 1; }

metric() { curl -sS -m 20 "http://127.0.0.1:$port/metrics" | sed -n "s/^$1 //p"; }
for _ in $(seq 100); do
  [ "$(metric cft_sequences_running)$(metric cft_sequences_waiting)" != 00 ] || break
  sleep 0.1
done
pages="$(metric cft_pages_free) of $(metric cft_pages)"
echo "$(metric cft_generated_tokens_total) tokens written, $pages pages free," \
  "$(sed -n 's/^VmRSS:\s*\([0-9]*\) kB/\1/p' /proc/$server/status) KiB resident"
[ "${pages% of *}" = "${pages#* of }" ] || { echo "pages are lost" >&2; exit 1; }
kill -TERM $server
code=0
wait $server || code=$?
[ $code = 0 ] && [ ! -s "$place/err" ] || { echo "the server ended with $code" >&2; cat "$place/err" >&2; exit 1; }
