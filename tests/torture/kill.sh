#!/bin/bash
# kill.sh N [CFTRUN]: kill a run at N random moments, saving included, and go on each time. What comes out must be
# what a run that was never stopped has: weights bit for bit, one line and one entry a step, every record once an
# epoch, nothing temporary left.
set -u
n=${1:-5} cftrun=${2:-build/cpu/cftrun}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=passive
run() { exec "$cftrun" recipes/sft.lua device=cpu dtype=f32 heldout=0 steps=40 save_every=3 keep=4 batch=16 out="$@"; }
fail() { echo "kill.sh: $1"; exit 1; }

(run "$work/whole") > "$work/whole.log" 2>&1 || { cat "$work/whole.log"; fail "the run that is not stopped failed"; }
kills=0 rounds=0
while [ $kills -lt "$n" ] && [ $rounds -lt $((8 * n + 20)) ]; do
  rounds=$((rounds + 1))
  resume=
  [ -d "$work/killed" ] && ls "$work/killed" | grep -q '^step-[0-9]*$' && resume=--resume
  [ -z "$resume" ] && rm -rf "$work/killed"
  (run "$work/killed" $resume) > "$work/killed.log" 2>&1 &
  pid=$!
  sleep "0.$(printf %03d $((RANDOM % 700 + 20)))"
  if kill -9 $pid 2>/dev/null; then
    wait $pid 2>/dev/null
    kills=$((kills + 1))
  else
    wait $pid || { cat "$work/killed.log"; fail "a run failed without being killed"; }
    rm -rf "$work/killed"  # it was done: once more from the beginning
  fi
done
resume=
ls "$work/killed" 2>/dev/null | grep -q '^step-[0-9]*$' && resume=--resume
[ -z "$resume" ] && rm -rf "$work/killed"
(run "$work/killed" $resume) > "$work/killed.log" 2>&1 || { cat "$work/killed.log"; fail "the last run failed"; }

for file in model.safetensors; do
  cmp "$work/whole/step-000040/$file" "$work/killed/step-000040/$file" || fail "$file is not that of a run never stopped"
done
find "$work/killed" -name '*.cft-tmp-*' | grep . && fail "something temporary is left"
"$cftrun" -e '
  local json, journals = require "cft.base.json", require "cft.io.journal"
  local function steps_of(out)
    local lines, entries, last = {}, {}, 0
    for line in io.lines(out .. "/log.jsonl") do
      local t = assert(json.decode(line), "a line of log.jsonl is torn")
      if t.step then lines[#lines + 1] = t.step end
    end
    local journal = assert(journals.read(out .. "/journal.msgpack"))
    for e in function() return (journal:next()) end do entries[#entries + 1] = e end
    for i = 1, 40 do assert(lines[i] == i and entries[i].step == i, "step " .. i .. " is not there once") end
    assert(#lines == 40 and #entries == 40, "there are steps too many")
    return entries
  end
  local whole, killed = steps_of(arg[1]), steps_of(arg[2])
  local seen = {}
  for i, e in ipairs(killed) do
    assert(e.loss == whole[i].loss and e.norm == whole[i].norm, "the loss of step " .. i .. " is another")
    for k, sample in ipairs(e.samples) do
      assert(sample == whole[i].samples[k], "step " .. i .. " had other samples")
      local epoch = math.floor((i - 1) / 10)
      local name = epoch .. " " .. sample
      assert(not seen[name], "sample " .. sample .. " comes twice in an epoch")
      seen[name] = true
    end
  end
  local count = 0
  for _ in pairs(seen) do count = count + 1 end
  assert(count == 640, "samples are missing: " .. count)
' "$work/whole" "$work/killed" || fail "log or journal"
echo "kill.sh: $kills kills, $rounds starts: all is as in a run never stopped"
