-- `cftrun bench`: what it says is there and adds up. How fast anything is, is no test.
local cft = require "cft"
local door = require "cft.engine.ffi"
local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local onednn = require "cft.cli.bench.onednn"
local process = require "tests.process"
local shares = require "cft.cli.bench.shares"
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
      local batch = step.batch(model.config.vocab, 96, 1, { 32 })
      -- The rows count the head's loss tokens, the arithmetic all; a sequence's first token is no target.
      local head = 6 * model.config.d * model.config.vocab * (96 - tonumber(batch.m))
      expect.close(r.floor.flops, step.arithmetic(model.config, batch) - head, 1e-9)
      expect.close(r.share_of_floor, r.floor.seconds / r.seconds, 1e-9)
      expect.close(r.tokens_per_s, 96 / r.seconds, 1e-9)
      expect.truthy(r.burst_flops > 1e8 and r.floor.rate > 0)
      model:release()
    end
  end },
  { "loss on a part is compared with all", function()
    local r = bench("--dtype", "f32", "--learned", "0.4")[1]
    expect.truthy(r.all_learned.arithmetic > 1.1 and r.all_learned.arithmetic < 2.5)
    expect.close(r.all_learned.ratio, r.all_learned.seconds / r.seconds, 1e-9)
  end },
  { "loss on all tokens, or none skipped, is the same arithmetic", function()
    local model = step.model("demo", "f32", "cpu")
    local batch = step.batch(model.config.vocab, 96, 0.5, { 32 })
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
  { "shares that lost more than a tenth are named, and what only one side has", function()
    local kept = { a = 0.5, b = 0.5, c = 0.5, gone = 0.1, ["also gone"] = 0.1 }
    local now = { { name = "a", share = 0.5 / 1.3 }, { name = "b", share = 0.451 }, { name = "c", share = 0.9 },
                  { name = "d", share = 1 } }
    expect.same(shares.compare(kept, now),
                { lost = { { name = "a", kept = 0.5, share = 0.5 / 1.3 } }, missing = { "also gone", "gone" }, new = { "d" } })
    kept.a = kept.a / 1.3
    expect.same(shares.compare(kept, now).lost, {})
  end },
  { "a small op is timed for a millisecond, each run on cold caches behind what prepares it", function()
    local calls, runs = {}, 0
    local function note(name) calls[#calls + 1] = name end
    local op = { prepare = function() note "p" end, after = function() note "a" end, run = function()
      note "r"
      runs = runs + 1
      local start = host.now()
      repeat until host.now() - start >= 5e-5
    end }
    local seconds, all = shares.cold(op, function() note "s" end)
    expect.truthy(runs >= 3 and all >= 1e-3 and all < runs * 1 and seconds >= 5e-5 and seconds <= all)
    expect.same(table.concat(calls), ("psra"):rep(runs))
  end },
  { "--keep writes shares that --check passes, and names the op whose share was higher", function()
    local path = process.folder() .. "/shares.json"
    local function bench_of(option)
      return run { "bench", "--model", "demo", "--tokens", "96", "--length", "32", "--seconds", "0", "--dtype", "f32", option, path }
    end
    local r = bench_of "--keep"
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "\nkept in " .. path:gsub("%p", "%%%0") .. "\n$")
    local file = json.read(path)
    expect.match(file.command, "^cftrun bench %-%-model demo .* %-%-keep /")
    expect.match(file.date, "^%d%d%d%d%-%d%d%-%d%d$")
    expect.truthy(#file.machine > 0 and #file.isa > 0 and file.threads >= 1)
    local names = {}
    for name, share in pairs(file.shares.f32) do
      names[#names + 1] = name
      -- Far below what was measured: what else this machine does now fails no test.
      file.shares.f32[name] = share / 20
    end
    expect.same(#names, 25)
    local function keep(values) process.write(path, json.encode(values)) end
    keep(file)
    r = bench_of "--check"
    expect.same({ r.code, r.err }, { 0, "" })
    expect.match(r.out, "\nno op lost more than a tenth of its share\n$")

    file.shares.f32["down dw"] = file.shares.f32["down dw"] * 20 * 1.3 * 20
    file.shares.f32["no such\27 op"], file.shares.f32["o y"] = 1, nil
    keep(file)
    r = bench_of "--check"
    expect.same({ r.code, r.err }, { 1, "" })
    expect.match(r.out, "\n  down dw in f32 lost %d+%%: %d%.%d+, kept is [%d.]+\n")
    expect.match(r.out, "\n  no such\\x1b op is in .-, but no op of this bench\n  o y is not in .-\n1 op lost more than a tenth of the share in ")
    r = run { "bench", "--model", "demo", "--tokens", "96", "--length", "32", "--seconds", "0", "--dtype", "f32", "--json", "--check", path }
    local result = json.decode(r.out).runs[1]
    expect.same({ r.code, #result.lost, result.lost[1].name, result.missing, result.new },
                { 1, 1, "down dw", { "no such\27 op" }, { "o y" } })
  end },
  { "--check refuses a file of another machine, instruction set, shape or dtype, and one of another form", function()
    local path = process.folder() .. "/shares.json"
    local o = { model = "demo", tokens = 96, lengths = { 32 }, learned = 1 }
    local function check(change, dtype)
      local file = shares.setting(o)
      file.format, file.shares = "cftrun bench: shares, 2", { f32 = { ["o y"] = 0.5 } }
      process.write(path, type(change) == "string" and change or json.encode(change(file) or file))
      local r = run { "bench", "--model", "demo", "--tokens", "96", "--length", "32", "--dtype", dtype or "f32", "--check", path }
      expect.same({ r.code, select(2, r.err:gsub("\n", "")) }, { 2, 1 })
      return r.err
    end
    local function set(name, value) return function(file) file[name] = value end end
    local at = "^cftrun: bench: %-%-check .-/shares%.json: "
    expect.match(check(set("machine", "Another 9000")), at .. "its machine is Another 9000, here it is .*; keep a new one with %-%-keep\n$")
    expect.match(check(set("isa", "sse9")), at .. "its isa is sse9, here it is ")
    expect.match(check(set("threads", 999)), at .. "its threads is 999, here it is ")
    expect.match(check(set("lengths", "32,16")), at .. "its lengths is 32,16, here it is 32;")
    expect.match(check(set("model", "other")), at .. "its model is other, here it is demo;")
    expect.match(check(function() end, "bf16"), at .. "it has no shares in bf16; keep")
    expect.match(check(set("format", "csv")), at .. "not shares of `cftrun bench %-%-keep`: its 'format' is not ")
    expect.match(check(set("threads", "2")), "its 'threads' is not a number\n$")
    expect.match(check(set("shares", nil)), "it has no 'shares'\n$")
    expect.match(check(set("shares", { f32 = 1 })), "its shares in f32 are no table\n$")
    expect.match(check(set("shares", { f32 = { ["o y"] = "0.5" } })), "its share of 'o y' in f32 is no positive number\n$")
    expect.match(check "[]", at .. "not shares")
    expect.match(check "{ \"format\": ", "^cftrun: bench: %-%-check: .-/shares%.json: ")
    local r = run { "bench", "--check", "/nowhere/shares.json" }
    expect.same(r.code, 2)
    expect.match(r.err, "^cftrun: bench: %-%-check: /nowhere/shares%.json: No such file")
    expect.match(run { "bench", "--keep", "x", "--device", "cuda" }.err, "%-%-keep wants %-%-device cpu: there is no burst of 'cuda'")
    expect.match(run { "bench", "--check", "x", "--against", "pytorch" }.err, "%-%-check measures ops alone, %-%-against whole steps")
  end },
  { "--help says how it is called", function()
    local r = run { "bench", "--help" }
    expect.same(r.code, 0)
    expect.match(r.out, "^measure ops and the training step at a model's shapes\n")
    for _, option in ipairs { "--model", "--dtype", "--keep FILE", "--check FILE", "--learned", "--json" } do
      expect.truthy(r.out:find(option, 1, true), option)
    end
    expect.truthy(not r.out:find("local", 1, true))
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
    r = run { "bench", "tokenizer" }
    expect.same({ r.code, r.err }, { 2, "cftrun: bench tokenizer: --texts FILE is wanted, one text a line\n" })
    r = run { "bench", "tokenizer", "--texts", "/no/such/file" }
    expect.same({ r.code, r.err }, { 4, "cftrun: bench tokenizer: no file /no/such/file\n" })
  end },
}
