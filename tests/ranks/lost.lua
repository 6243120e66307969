-- Ranks that die or stand still: the others end, and say who it was; --restarts goes on.

local expect = require "tests.expect"
local host = require "cft.host"
local process = require "tests.process"

local RECIPE = process.shell("pwd", "."):match "[^\n]+" .. "/tests/fixtures/few_steps.lua"

-- Starts a run, sends a signal to one of its ranks when so many steps are made, and waits for the end; prints the exit code and how
-- long all were gone after the signal, in tenths of a second.
local SCRIPT = [[
export OMP_NUM_THREADS=1
cftrun %s %s out=run slow=0.05 >said 2>&1 & run=$!
for i in $(seq 400); do [ -f run/log.jsonl ] && [ $(grep -c '"step"' run/log.jsonl) -ge %d ] && break; sleep 0.05; done
pids() { grep -o '"pid": *[0-9]*' run/run.json | grep -o '[0-9]*'; }
kill -%s $(pids | sed -n %dp); %s
tenths=0
while %s && [ $tenths -lt 300 ]; do sleep 0.1; tenths=$((tenths + 1)); done
wait $run; echo "code $? after $tenths tenths"; cat said]]

local ALL_RUN = [[grep -o '"pid": *[0-9]*' run/run.json | grep -o '[0-9]*' | (n=0; while read p; do kill -0 $p 2>/dev/null && n=1; done; [ $n = 1 ])]]

-- `also`: what else is done then. @treturn function waits for what was said @treturn string the run's folder
local function begin(options, settings, steps, signal, rank, wait, also)
  local folder = process.folder()
  local ended = process.begin_shell(SCRIPT:format(options, RECIPE .. " " .. settings, steps, signal, rank + 1, also or "", wait), folder)
  return function()
    local said = ended()
    if said:find "there is none in PATH" and not os.getenv "CI" then skip "no mpirun here" end
    return said
  end, folder
end

-- Runs of three, beside each other since they mostly wait: { signal, to which rank, what is said of it, what else is done then }.
local function lost(what, ...)
  local rows = { ... }
  return { what, function()
    local ended = {}
    for i, row in ipairs(rows) do ended[i] = begin("--ranks 3", "steps=100000", 3, row[1], row[2], ALL_RUN, row[4]) end
    for i, row in ipairs(rows) do
      local said = ended[i]()
      local code, tenths = said:match "code (%d+) after (%d+) tenths"
      expect.truthy(code == "6" or code == "137", said)  -- mpirun gives that of the first that it has heard of
      expect.truthy(tonumber(tenths) < 100, said)
      expect.truthy(said:find(("rank %d of 3 is lost: %s"):format(row[2], row[3])), said)
      if not row[4] then
        expect.truthy(said:find(("rank %d on "):format(row[2])) and said:find "few_steps.lua:%d", said)
        local _, tables = said:gsub("is lost:", "")
        expect.same(tables, 1, said)
      end
    end
  end }
end

return {
  lost("a rank that is killed, the last and the first", { "KILL", 2, "its process is gone" }, { "KILL", 0, "its process is gone" }),
  lost("a rank that stands still; SIGTERM to the others meanwhile: they do not wait for it",
    { "STOP", 1, "nothing was heard of it for 4 s" },
    { "STOP", 1, "nothing was heard of it", "kill -TERM $(pids | sed -n '1p;3p')" }),
  { "a rank that lives and never comes to a collective is named early, and lost when the others have waited long enough", function()
    local ended = {}
    for _, rank in ipairs { 0, 2 } do
      local folder = process.folder()
      ended[rank] = { folder, process.begin_shell(
        ("export OMP_NUM_THREADS=1; cftrun --ranks 3 %s steps=100 out=run loops=%d stall=4; echo code $?"):format(RECIPE, rank), folder) }
    end
    for rank, of in pairs(ended) do
      local folder, said = of[1], of[2]()
      if said:find "there is none in PATH" and not os.getenv "CI" then skip "no mpirun here" end
      expect.truthy(said:find "code 6", said)
      local warned, lost = said:find(("the ranks have waited %%S+ s for rank %d; after 4 s all will end"):format(rank)),
                           said:find(("rank %d of 3 is lost: it is at 'after_step', and the others waited"):format(rank))
      expect.truthy(warned and lost and warned < lost, said)
      expect.truthy(said:find(("rank %d on [^\n]*step 3, after_step for [^\n]*few_steps.lua:%%d+"):format(rank)), said)
      expect.truthy(said:find(("rank 1 on [^\n]*step 3, all_gather for [^\n]*, waits for rank %d\n"):format(rank)), said)
      local gone = "for i in $(seq 100); do %s || break; sleep 0.1; done; %s && echo some"
      expect.same(process.shell(gone:format(ALL_RUN, ALL_RUN), folder), "")
    end
  end },
  { "SIGTERM: all finish their step, it is saved, and nothing is started again", function()
    local folder = process.folder()
    local said = process.shell(([[
export OMP_NUM_THREADS=1
cftrun --ranks 2 --restarts 3 %s steps=100000 slow=0.05 zero=2 out=run >said 2>&1 & run=$!
for i in $(seq 400); do [ -f run/log.jsonl ] && [ $(grep -c '"step"' run/log.jsonl) -ge 3 ] && break; sleep 0.05; done
kill -TERM $run; wait $run; echo "code $?"; cat said]]):format(RECIPE), folder)
    expect.truthy(said:find "code 143", said)
    local step = said:match "interrupted after step (%d+); saved in run/step%-"
    expect.same(host.kind(("%s/run/step-%06d"):format(folder, step)), "folder")
  end },
  { "--restarts goes on from the newest checkpoint, to the same bits", function()
    local ended, folder = begin("--ranks 2 --restarts 2", "steps=12 save_every=3", 5, "KILL", 1, "false")
    local never = process.shell(("cftrun --ranks 2 %s steps=12 save_every=3 out=never; echo code $?"):format(RECIPE), folder)
    local said = ended()
    expect.truthy(said:find "code 0 after", said)
    expect.truthy(said:find "a rank was lost %(exit code %d+%); start 2 of 3", said)
    expect.truthy(said:find "resumed at step %d+ from run/step%-", said)
    expect.truthy(never:find "code 0", never)
    for _, name in ipairs { "model.safetensors" } do
      expect.truthy(process.contents(folder .. "/run/step-000012/" .. name)
                    == process.contents(folder .. "/never/step-000012/" .. name), name)
    end
  end },
  { "--continue begins where there is nothing, and goes on where there is", function()
    local folder = process.folder()
    local function run(...)
      local r = process.cftrun { RECIPE, "out=" .. folder .. "/run", "--continue", ... }
      expect.same(r.code, 0, r.err)
      return r.out
    end
    expect.same(run("steps=4", "save_every=2"):find "resumed", nil)
    os.execute("rm -rf " .. folder .. "/run/step-000004")
    expect.truthy(run("steps=4", "save_every=2"):find "resumed at step 2 from ")
  end },
  { "--continue takes no folder of another recipe, and wants one", function()
    local folder = process.folder()
    process.write(folder .. "/run.json", '{"format": 1, "id": "x", "recipe": {"path": "other.lua"}}')
    local r = process.cftrun { RECIPE, "out=" .. folder, "--continue" }
    expect.same(r.code, 2)
    expect.truthy(r.err:find "holds a run already %(other.lua", r.err)
    r = process.cftrun { RECIPE, "--continue" }
    expect.same(r.code, 2)
    expect.truthy(r.err:find "%-%-continue goes on with the run in out=, which is not set", r.err)
    expect.same(host.list(folder), { ".lock", "run.json" })
  end },
  { "srun without a plugin for MPI: what to say, and no run", function()
    local out = process.folder() .. "/run"
    local r = process.cftrun { RECIPE, "out=" .. out, env = { SLURM_PROCID = "0", SLURM_STEP_NUM_TASKS = "2" } }
    expect.truthy(r.code ~= 0 and not host.kind(out .. "/run.json"), r.out)
    expect.truthy(r.err:find "without PMIx or PMI%-2; if MPI does not find them, say srun %-%-mpi=pmix", r.err)
  end },
  { "--restarts without --ranks is refused", function()
    local r = process.cftrun { RECIPE, "--restarts", "1" }
    expect.same(r.code, 2)
    expect.truthy(r.err:find "%-%-restarts goes with %-%-ranks", r.err)
  end },
}
