-- Ranks under torchrun's variables: they meet by TCP and sum by Gloo.

local expect = require "tests.expect"
local process = require "tests.process"
local torchrun = require "cft.ranks.torchrun"

local RECIPE = process.shell("pwd", "."):match "[^\n]+" .. "/tests/fixtures/few_steps.lua"

-- So many processes with the variables that torchrun sets, on one host; prints what each said and its exit code.
local SCRIPT = [[
export OMP_NUM_THREADS=1 WORLD_SIZE=%d LOCAL_WORLD_SIZE=%d MASTER_ADDR=%s MASTER_PORT=%d %s
for r in $(seq 0 $((WORLD_SIZE - 1))); do
  (RANK=$r LOCAL_RANK=$r %s %s; echo "code $?") >said.$r 2>&1 &
done
%s
wait; cat said.*]]

local port = 20000 + tonumber(process.shell("echo $$", ".")) % 20000  -- below those that the system gives away

local function start(n, o)
  local folder = process.folder()
  port = port + 16
  local said = process.shell(SCRIPT:format(n, o.local_size or n, o.host or "127.0.0.1", port, o.variables or "", o.program or "cftrun",
    RECIPE .. " " .. o.args, o.meanwhile or ""), folder)
  if said:find "libcft_gloo.so is not beside the program" and not (o.program or os.getenv "CI") then skip "no Gloo here" end
  return said, folder
end

local function losses(folder)
  local list = {}
  for loss in process.contents(folder .. "/log.jsonl"):gmatch '"loss":([%d.]+),"lr"' do list[#list + 1] = tonumber(loss) end
  return list
end

local alone
local function one()
  if not alone then
    local folder = process.folder()
    local r = process.cftrun { RECIPE, "out=" .. folder .. "/run", "steps=12", env = { OMP_NUM_THREADS = "1" } }
    expect.same(r.code, 0, r.err)
    alone = losses(folder .. "/run")
  end
  return alone
end

local function codes(said, code)
  local _, times = said:gsub("code " .. code .. "\n", "")
  return times
end

local function as_one(n, zero)
  return { ("%d ranks make the steps that one makes, zero=%d"):format(n, zero), function()
    local said, folder = start(n, { args = ("out=run steps=12 zero=%d"):format(zero) })
    expect.same(codes(said, 0), n, said)
    expect.truthy(said:find(n .. " ranks by torchrun", 1, true), said)
    local a, b = one(), losses(folder .. "/run")
    expect.same(#b, #a)
    for step, loss in ipairs(a) do
      expect.truthy(math.abs(b[step] - loss) <= 1e-5 * loss, ("step %d: %.7g and %.7g"):format(step, loss, b[step]))
    end
    if n > 2 then return end
    local _, again = start(n, { args = ("out=run steps=12 zero=%d"):format(zero) })
    expect.truthy(process.contents(folder .. "/run/step-000012/model.safetensors")
                  == process.contents(again .. "/run/step-000012/model.safetensors"), "the same bits again")
  end }
end

local function read(set) return function(name) return set[name] end end

local function refused(what, message, set, found)
  return { "refused: " .. what, function()
    expect.raises(message, torchrun.place, read(set), found or { rank = 0, size = 2, local_size = 2 })
  end }
end

return {
  as_one(2, 0), as_one(2, 2), as_one(4, 1),
  { "a rank that is killed is named, and the others end", function()
    local said = start(3, { args = "out=run steps=100000 slow=0.02", meanwhile = [[
for i in $(seq 400); do [ -f run/log.jsonl ] && [ $(grep -c '"step"' run/log.jsonl) -ge 3 ] && break; sleep 0.05; done
kill -KILL $(grep -o '"pid": *[0-9]*' run/run.json | grep -o '[0-9]*' | sed -n 3p)]] })
    expect.same(codes(said, 6), 2, said)
    expect.truthy(said:find "rank 2 of 3 is lost: its process is gone", said)
  end },
  { "a program without Gloo's module says what to install", function()
    local said = start(2, { args = "steps=2", variables = "; cp $(command -v cftrun) alone", program = "./alone" })
    expect.same(codes(said, 3), 2, said)
    expect.truthy(said:find("libcft_gloo.so is not beside the program: it was built without Gloo's header; install libgloo-dev and", 1, true), said)
  end },
  { "torchrun's own store is left alone", function()
    local set = { MASTER_ADDR = "localhost", MASTER_PORT = "29500", TORCHELASTIC_USE_AGENT_STORE = "True" }
    expect.same(torchrun.place(read(set), { size = 2, local_size = 2 }).port, 29501)
    set.TORCHELASTIC_USE_AGENT_STORE = nil
    expect.same(torchrun.place(read(set), { size = 2, local_size = 2 }).port, 29500)
  end },
  { "runs, restarts and sizes have secrets of their own", function()
    local function secret(more, size)
      local set = { MASTER_ADDR = "localhost", MASTER_PORT = "29500" }
      for k, v in pairs(more) do set[k] = v end
      return torchrun.place(read(set), { size = size or 2, local_size = size or 2 }).secret
    end
    local plain = secret {}
    for _, more in ipairs { { CFT_RUN_SECRET = "x" }, { TORCHELASTIC_RUN_ID = "7" }, { TORCHELASTIC_RESTART_COUNT = "1" } } do
      expect.truthy(secret(more) ~= plain)
    end
    expect.truthy(secret({}, 3) ~= plain)
    expect.same(secret {}, plain)
  end },
  refused("no MASTER_ADDR", "MASTER_ADDR is not set", { MASTER_PORT = "29500" }),
  refused("no MASTER_PORT", "MASTER_PORT is not set", { MASTER_ADDR = "a" }),
  refused("a malformed port", "MASTER_PORT is 'http'; a port is wanted", { MASTER_ADDR = "a", MASTER_PORT = "http" }),
  refused("a port beyond the last", "MASTER_PORT is '70000'", { MASTER_ADDR = "a", MASTER_PORT = "70000" }),
  refused("several hosts without a secret", "set CFT_RUN_SECRET, on all hosts", { MASTER_ADDR = "node1", MASTER_PORT = "29500" },
    { rank = 0, size = 4, local_size = 2 }),
  refused("a secret that is too long", "CFT_RUN_SECRET has 101 bytes; 100 at most",
    { MASTER_ADDR = "localhost", MASTER_PORT = "29500", CFT_RUN_SECRET = ("x"):rep(101) }),
}
