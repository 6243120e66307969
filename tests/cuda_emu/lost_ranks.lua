-- Ranks with a GPU each, emulated: one that is lost, or does not come to a collective, is named by the others, who end; and ranks
-- that cannot have a GPU each are refused. CFT_CUDA_MODULE=... cftrun tests/run.lua tests/cuda_emu/lost_ranks.lua

local devices = require "cft.ranks.devices"
local expect = require "tests.expect"
local process = require "tests.process"

local RECIPE = process.shell("pwd", "."):match "[^\n]+" .. "/tests/fixtures/few_steps.lua"
local tests = {}

-- ---- ranks that are lost -----------------------------------------------------------------------

-- A run of three, of which something happens to rank 1 when two steps are made; what it says, the exit code, and which of the
-- three are still there half a minute after the launcher.
local SCRIPT = [[
export OMP_NUM_THREADS=1 CUDA_EMU_DEVICES=4 NCCL_RAS_ADDR=127.0.0.1:$((20000 + $$ %% 20000)) %s
cftrun --ranks 3 %s device=cuda batch=4 tokens=200 held=3 steps=100000 stall=8 out=run >said 2>&1 & run=$!
for i in $(seq 1200); do
  [ -f run/log.jsonl ] && [ $(grep -c '"step"' run/log.jsonl) -ge 2 ] && break
  kill -0 $run || break
  sleep 0.05
done
pids=$(grep -o '"pid": *[0-9]*' run/run.json | grep -o '[0-9]*')
%s
wait $run; echo "code $?"
for p in $pids; do
  for i in $(seq 300); do kill -0 $p 2>/dev/null || break; sleep 0.1; done
  kill -0 $p 2>/dev/null && echo "still there: $p"
done
cat said]]

-- `nccl`: what NCCL says of it below the table.
local function lost(what, env, event, reason, nccl)
  tests[#tests + 1] = { what, function()
    local said = process.shell(SCRIPT:format(env, RECIPE, event), process.folder())
    local code = said:match "code (%d+)"
    expect.truthy(code == "6" or code == "137", said)  -- mpirun gives that of the first that it has heard of
    expect.truthy(said:find("rank 1 of 3 is lost: " .. reason), said)
    expect.truthy(said:find "rank 1 on [^\n]*few_steps.lua:%d", said)
    local lines, answer = said:match "is lost:(.-)\nNCCL at [%d.:]+:\n(.*)"
    expect.truthy(lines and lines:find "rank 2 on " and answer:find "^  Communicators" and answer:find(nccl), said)
    expect.same(said:find "still there", nil, said)
    local _, tables = said:gsub("is lost:", "")
    expect.same(tables, 1, said)
  end }
end

local KILL = "kill -%s $(echo $pids | cut -d' ' -f2)"
lost("a rank is killed: the others end with a table and code 6", "", KILL:format "KILL", "its process is gone",
  "Rank 1 has begun [^\n]*; it has died")
lost("a rank is stopped", "", KILL:format "STOP", "nothing was heard of it for 4 s", "Rank 1 has begun %d+ collectives")
lost("a call of NCCL does not return", "CUDA_EMU_NCCL_STALL=1:12", "", "it is at 'all_reduce', and the others waited",
  "Rank 1 has begun %d+ collectives")

-- ---- what is refused ---------------------------------------------------------------------------

local function refused(what, env, message)
  tests[#tests + 1] = { "refused: " .. what, function()
    env.OMP_NUM_THREADS = "1"
    local r = process.cftrun { "--ranks", "2", RECIPE, "device=cuda", env = env }
    expect.same(r.code, 3, r.err)
    expect.truthy(r.err:find(message), r.err)
    local _, times = r.err:gsub("cftrun: ", "")
    expect.same(times, 1, r.err)
  end }
end

refused("more ranks than GPUs", { CUDA_EMU_DEVICES = "1" },
  "ranks 0 and 1 on %S+ have the same GPU, GPU%-[%x-]+; 2 ranks are there, and each needs a GPU of its own")
refused("no NCCL", { CUDA_EMU_WITHOUT = "nccl", CUDA_EMU_DEVICES = "2" },
  "device=cuda: rank 0 on %S+ has no NCCL, by which GPUs sum: one GPU alone")
refused("an NCCL that is too old", { CUDA_EMU_NCCL_VERSION = "21003", CUDA_EMU_DEVICES = "2" },
  "has no NCCL, by which GPUs sum: 2.10.3; 2.14 or newer is wanted")
refused("no GPU", { CUDA_EMU_DEVICES = "0" }, "rank 0 on %S+ has no GPU: there is none")

tests[#tests + 1] = { "a GPU is known by its UUID, whatever its host is called", function()
  local places = { { host = "a" }, { host = "b" }, { host = "a" } }
  expect.same(devices.shared(places, { "GPU-1", "GPU-2", "GPU-3" }), nil)
  expect.truthy(devices.shared(places, { "GPU-1", "GPU-2", "GPU-1" }):find("ranks 0 and 2 on a have the same GPU, GPU-1; 2 ranks ", 1, true))
  expect.truthy(devices.shared(places, { "GPU-1", "GPU-2", "GPU-2" })
    :find("ranks 1 on b and 2 on a have the same GPU, GPU-2: these are one machine", 1, true))
end }

tests[#tests + 1] = { "device=auto takes the CPU where one of them cannot have a GPU, and says why", function()
  local r = process.cftrun { "--ranks", "2", RECIPE, "device=auto", "steps=1", "held=3",
                             env = { OMP_NUM_THREADS = "1", CUDA_EMU_WITHOUT = "nccl" } }
  expect.same(r.code, 0, r.err)
  expect.truthy(r.out:find "device cpu: [^\n]*%(rank 0 on %S+ has no NCCL", r.out)
end }

-- Each process sees one GPU, as a launcher may have it: number 0 to all of them.
tests[#tests + 1] = { "a launcher that gives each rank a GPU of its own", function()
  local folder = process.folder()
  local said = process.shell((
    "export OMP_NUM_THREADS=1 CUDA_EMU_DEVICES=2 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1\n"
    .. "mpirun -np 2 --bind-to none sh -c 'CUDA_VISIBLE_DEVICES=$OMPI_COMM_WORLD_LOCAL_RANK exec "
    .. "cftrun %s device=cuda steps=1 held=3 batch=4 tokens=200'; echo code $?"):format(RECIPE), folder)
  expect.truthy(said:find "code 0" and said:find "device cuda:0", said)
end }

return tests
