-- TERM, HUP and Ctrl-C while other processes go through a large source: the program is gone within seconds, with its code, and so
-- are they; nothing temporary is left.

local expect = require "tests.expect"
local process = require "tests.process"

-- A source whose records take long in processes beside the first: a job of 2,048 of them ten seconds and more.
local SLOW = [[
local cft = require "cft"
local host, parallel = require "cft.host", require "cft.data.parallel"
local function slow(r)
  if parallel.inside then host.sleep(0.005) end
  return { instruction = r.question, output = r.answer }
end
]]

local scripts = {
  index = [[require("cft.data.open").LARGE = 0
            local cfg = cft.config { data = %q, heldout = 0, steps = 2, batch = 4, tokens = 512, device = "cpu", dtype = "f32" }
            cft.recipe.run(cfg, { name = "r", tokenizer = cft.demo.words, model = cft.demo.tiny, fields = slow })]],
  dedup = [[print(cft.dedup.new {}:keep(cft.data.open(%q, { fields = slow })):size())]],
  decontaminate = [[print(cft.decontaminate.search(cft.data.open(%q, { fields = slow }), { %q }):describe())]],
}

-- $1 the signal, the rest is how to start it. Its processes are those that work in the folder. `set -m`: else a shell has
-- what it runs in the background ignore Ctrl-C.
local WATCH = [[
set -m
mkdir cache tmp
export CFT_CACHE=$PWD/cache TMPDIR=$PWD/tmp
count() {
  for p in /proc/[0-9]*; do [ "$(readlink $p/cwd)" = "$PWD" ] && readlink $p/exe; done | grep -c 'cftrun$'
}
signal=$1; shift
"$@" > log 2>&1 & pid=$!
for i in $(seq 600); do [ "$(count)" -ge 3 ] && break; sleep 0.05; done
sleep 0.2
echo "working $(count)"
from=$(date +%s%N)
kill -$signal $pid
( sleep 20; kill -9 $pid ) >/dev/null 2>&1 & watch=$!
wait $pid; echo "code $?"
echo "ms $(( ($(date +%s%N) - from) / 1000000 ))"
kill -- -$watch
sleep 0.1
echo "left $(count)"
find cache tmp -name '*cft-tmp-*' -o -path 'tmp/*'
cat log
]]

local function one(signal, what)
  local folder = process.folder()
  local lines = {}
  for i = 1, 10000 do lines[i] = ('{"question": "what is %d?", "answer": "it is %d, and no other number"}'):format(i, i) end
  local data = process.write(folder .. "/data.jsonl", table.concat(lines, "\n") .. "\n")
  process.write(folder .. "/bench.jsonl", table.concat(lines, "\n", 1, 9) .. "\n")
  process.write(folder .. "/r.lua", SLOW .. scripts[what == "data" and "index" or what]:format(data, folder .. "/bench.jsonl"))
  process.write(folder .. "/watch.sh", WATCH)
  return process.shell(("bash watch.sh %s cftrun %s %s/r.lua"):format(signal, what == "data" and "data" or "", folder), folder)
end

local tests = {}
for _, what in ipairs { "index", "data", "dedup", "decontaminate" } do
  tests[#tests + 1] = { "signals while processes scan: " .. what, function()
    for signal, code in pairs { TERM = 143, HUP = 143, INT = 130 } do
      local text = one(signal, what)
      expect.truthy(tonumber(text:match "working (%d+)") >= 3, text)
      expect.same(tonumber(text:match "code (%d+)"), code, text)
      expect.truthy(tonumber(text:match "ms (%d+)") < 8000, text)  -- before a job was done
      expect.match(text, "left 0\n")
      expect.truthy(not text:find("cft-tmp-", 1, true) and not text:find("tmp/", 1, true), text)
    end
  end }
end

tests[#tests + 1] = { "Ctrl-C in a record's own function is no fault of the record", function()
  local folder = process.folder()
  process.write(folder .. "/data.jsonl", ('{"question": "a", "answer": "b"}\n'):rep(3))
  process.write(folder .. "/r.lua", [[
    local cft, host = require "cft", require "cft.host"
    local function fields(r) 
      os.execute("(sleep 0.1; kill -INT $PPID) &")
      host.sleep(5)
      return { instruction = r.question, output = "b" }
    end
    print(cft.data.open("data.jsonl", { fields = fields, limit_bad = 3 }):get(0))]])
  local text = process.shell("cftrun r.lua; echo code $?", folder)
  expect.match(text, "cftrun: [^\n]*interrupted\ncode 130\n")
end }

return tests
