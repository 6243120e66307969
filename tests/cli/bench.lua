-- `cftrun bench`: what it says is there and adds up. How fast anything is, is no test.
local cft = require "cft"
local door = require "cft.engine.ffi"
local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local onednn = require "cft.cli.bench.onednn"
local process = require "tests.process"
local step = require "cft.cli.bench.step"

local run = process.cftrun

local function bench(...)
  local r = run { "bench", "--model", "demo", "--tokens", "96", "--length", "32", "--seconds", "0", "--json", ... }
  expect.same({ r.code, r.err }, { 0, "" })
  return json.decode(r.out).runs
end

return {
  { "the floor counts every matmul and attention of the step", function()
    for _, r in ipairs(bench("--dtype", "f32,bf16")) do
      local model = step.model("demo", r.dtype, "cpu")
      local batch = step.batch(model.config.vocab, 96, 32, 1)
      -- The rows count the head's learned tokens, the arithmetic all; a sequence's first token is no target.
      local head = 6 * model.config.d * model.config.vocab * (96 - tonumber(batch.m))
      expect.close(r.floor.flops, step.arithmetic(model.config, batch) - head, 1e-9)
      expect.close(r.share_of_floor, r.floor.seconds / r.seconds, 1e-9)
      expect.close(r.tokens_per_s, 96 / r.seconds, 1e-9)
      expect.truthy(r.burst_flops > 1e8 and r.floor.rate > 0)
      model:release()
    end
  end },
  { "a part that is learned is compared with all", function()
    local r = bench("--dtype", "f32", "--learned", "0.4")[1]
    expect.truthy(r.all_learned.arithmetic > 1.1 and r.all_learned.arithmetic < 2.5)
    expect.close(r.all_learned.ratio, r.all_learned.seconds / r.seconds, 1e-9)
  end },
  { "all learned or none skipped is the same arithmetic", function()
    local model = step.model("demo", "f32", "cpu")
    local batch = step.batch(model.config.vocab, 96, 32, 0.5)
    expect.truthy(step.arithmetic(model.config, batch, true) < step.arithmetic(model.config, batch))
    model:release()
  end },
  { "its memory is weights, gradients, moments and what the blocks keep", function()
    local r = bench("--dtype", "f32")[1]
    local model = step.model("demo", "f32", "cpu")
    local parameters = 0
    model:zero_grad()
    for _, g in ipairs(model.groups) do parameters = parameters + g.grad:count() end
    expect.close(r.held_bytes, 16 * parameters, 1e-4)  -- and a few numbers of the clip
    expect.truthy(r.peak_bytes > r.held_bytes and r.bound_bytes > r.held_bytes)
    model:release()
  end },
  { "matmuls are compared with oneDNN where its module is beside cftrun", function()
    local library, why = onednn.open()
    if not library then skip(why) end
    local r = bench("--dtype", "f32")[1]
    for _, op in ipairs(r.ops) do expect.same(op.onednn ~= nil, op.matmul == true, op.name) end
    expect.same(r.floor.by, "oneDNN")
  end },
  { "without oneDNN's module the bench says which column is missing and what to install", function()
    local folder = process.folder()
    local program = folder .. "/cftrun"
    os.execute('cp "$(readlink /proc/$PPID/exe)" ' .. program)  -- the shell's parent is the program that asks
    local args = "bench --model demo --tokens 64 --length 32 --seconds 0 --dtype f32"
    local function lines_of()
      local pipe = io.popen(("%s %s 2>&1"):format(program, args))
      local text = pipe:read "*a"
      pipe:close()
      return text
    end
    local text = lines_of()
    expect.match(text, "\nno column of oneDNN: " .. folder:gsub("%p", "%%%0")
      .. "/libcft_bench_onednn%.so is not there; install libdnnl%-dev and build again\n")
    expect.match(text, "rate  of the burst\n")
    expect.match(text, " by cft: ")
    process.write(folder .. "/libcft_bench_onednn.so", "no library")
    expect.match(lines_of(), "\nno column of oneDNN: .*onednn%.so cannot be opened; install libdnnl%-dev and build again %(.-file too short%)\n")
  end },
  { "oneDNN's matmuls leave with what they were measured for", function()
    local library, why = onednn.open()
    if not library then skip(why) end
    local cpu = door.C.cft_cpu_device()
    local own, seen = cpu.kernels, {}
    expect.raises("^enough$", onednn.instead, library, function(name)
      seen[#seen + 1] = name
      expect.truthy(cpu.kernels ~= own and cpu.kernels.matmul ~= own.matmul and cpu.kernels.adamw == own.adamw)
      if #seen == 2 then error("enough", 0) end
    end)
    expect.same(seen, { "cft_onednn_matmul", "cft_onednn_matmul_packed" })
    expect.truthy(cpu.kernels == own)
  end },
  { "--against pytorch without a Python says what is missing", function()
    local r = run { "bench", "--model", "demo", "--tokens", "64", "--seconds", "0", "--dtype", "f32", "--against", "pytorch",
                    env = { CFT_PYTHON = "/nowhere/python" } }
    expect.same(r.code, 4)
    expect.match(r.err, "CFT_PYTHON names a Python with torch and transformers\n$")
  end },
  { "what it hands to Python lies in a folder of its own, and goes", function()
    local folder = process.folder()
    local said = folder .. "/said"
    local python = process.write(folder .. "/python", ([[#!/bin/sh
for file; do case "$file" in */config.json|*/job.json) at=$(dirname "$file"); esac; done
stat -c '%%a' "$at" >>'%s'; echo "$at" >>'%s']]):format(said, said))
    os.execute("chmod +x " .. python)
    local text, model = process.write(folder .. "/text.txt", "one\ntwo\n"), folder .. "/model"
    cft.demo.tokenizer(1):save(model)
    for _, args in ipairs {
      { "bench", "--model", "demo", "--tokens", "64", "--seconds", "0", "--dtype", "f32", "--against", "pytorch" },
      { "bench", "tokenizer", "--model", model, "--texts", text, "--against", "tokenizers" },
    } do
      args.env = { CFT_PYTHON = python, TMPDIR = folder }
      local r = run(args)
      expect.same(r.code, 4, r.err)
      local list = assert(io.open(said))
      local mode, at = list:read("*l", "*l")
      list:close()
      os.remove(said)
      expect.same(mode, "700")
      expect.match(at, "^" .. folder:gsub("%-", "%%-") .. "/cft%-%w+$")
      expect.same(host.kind(at), nil)
    end
  end },
  { "refuses what it does not know", function()
    expect.match(run { "bench", "--nonsense" }.err, "^cftrun: bench: unknown argument '%-%-nonsense'")
    expect.same(run { "bench", "--dtype", "f16" }.code, 2)
    expect.same(run { "bench", "--tokens", "0" }.code, 2)
    expect.match(run { "bench", "--lengths", "12,,4" }.err, "^cftrun: bench: %-%-lengths must be an integer, got ''")
    local r = run { "bench", "--model", "no-such-model", "--dtype", "f32" }
    expect.same(r.code, 4)
    expect.match(r.err, "^cftrun: bench: there is no folder or file no%-such%-model")
  end },
}
