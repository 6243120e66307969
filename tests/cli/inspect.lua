--- cftrun inspect: checkpoints of a run, and tensors of files of all kinds.

local expect = require "tests.expect"
local files = require "cft.io.files"
local process = require "tests.process"
local tensor = require "cft.engine.tensor"
require "cft.engine.ops"

local function inspect(...) return process.cftrun { "inspect", ... } end

local function odd_numbers()
  local path = process.folder() .. "/odd.safetensors"
  local nan, infinite = 0 / 0, math.huge
  files.write_tensors(path, {
    { name = "a", tensor = tensor.new { { 1, -2, nan }, { infinite, 4.5, 0 } } },
    { name = "b", tensor = tensor.new({ 1.5, -65504, 2 ^ -24 }, { dtype = "f16" }) },
    { name = "c", tensor = tensor.new({ 3, -infinite }, { dtype = "bf16" }) },
    { name = "i", tensor = tensor.new({ 7, -9 }, { dtype = "i64" }) },
    { name = "u", tensor = tensor.new({ 0, 255 }, { dtype = "u8" }) },
    { name = "none", tensor = tensor.zeros { 0, 4 } },
  })
  local got = inspect(path)
  expect.same(got.code, 1)
  expect.match(got.out, "6 tensors, 15 numbers, 3 of them not finite\n")
  expect.match(got.out, "\n  a     f32   %(2, 3%) +%-2 +0.875 +4.5  1 NaN, 1 infinite\n")
  expect.match(got.out, "\n  b     f16   %(3%) +%-6.55e%+04 +%-2.183e%+04 +1.5\n")
  expect.match(got.out, "\n  c     bf16  %(2%) +3 +3 +3  1 infinite\n")
  expect.match(got.out, "\n  i     i64   %(2%) +%-9 +%-1 +7\n")
  expect.match(got.out, "\n  u     u8    %(2%) +0 +127.5 +255\n")
  expect.match(got.out, "\n  none  f32   %(0, 4%)")
end

local function files_of_all_kinds()
  local got = inspect "tests/golden/qwen2-small"
  expect.same(got.code, 0)
  expect.match(got.out, "38 tensors, 39.6k numbers\n")
  expect.match(got.out, "model%.layers%.%*%.mlp%.up_proj%.weight %(3%)")
  got = inspect("tests/golden/qwen2-small", "--all")
  expect.match(got.out, "\n  model%.layers%.2%.mlp%.up_proj%.weight")
  got = inspect "tests/golden/gguf/types.gguf"
  expect.match(got.out, "Q4_K")
  local path = process.folder() .. "/state.msgpack"
  files.write_state(path, { done = 3, moments = { w = { m = tensor.new { 1, 3 } } } })
  got = inspect(path)
  expect.same(got.code, 0)
  expect.match(got.out, "\n  moments%.w%.m  f32   %(2%) +1 +2 +3\n")
end

local function what_cannot_be_looked_at()
  for _, row in ipairs { { {}, 2, "name a run's folder" }, { { "nowhere" }, 2, "there is no nowhere" },
                         { { "a", "b" }, 2, "unknown argument 'b'" }, { { "--al" }, 2, "unknown argument" },
                         { { "tests/golden/ops.json" }, 1, "ops.json" }, { { "tests/fixtures" }, 1, "tests/fixtures" } } do
    local got = inspect(unpack(row[1]))
    expect.same(got.code, row[2])
    expect.match(got.err, row[3])
  end
  local got = inspect "--help"
  expect.same(got.code, 0)
  expect.match(got.out, "cftrun inspect RUN")
end

local function a_runs_checkpoints()
  local run = process.folder()
  for step = 10, 30, 10 do
    local save = files.save(("%s/step-%06d"):format(run, step))
    save:write_tensors("model.safetensors", { { name = "w", tensor = tensor.new { step } } })
    if step > 10 then
      save:write_state("state.msgpack", { done = step, steps = 40, tokens = 12345 * step,
                                          best = { step = 20, metric = "heldout_loss", value = 1.5 } })
    end
    save:commit()
  end
  local got = inspect(run)
  expect.same(got.code, 0)
  expect.match(got.out, "3 checkpoints\n")
  expect.match(got.out, "step%-000010 .* weights alone")
  expect.match(got.out, "step%-000020 .*whole, step 20 of 40, 246.9k tokens, best: heldout_loss 1.5000\n")
  local path = run .. "/step-000030/model.safetensors"
  local text = process.contents(path)
  process.write(path, text:sub(1, -2) .. "x")
  got = inspect(run)
  expect.same(got.code, 1)
  expect.match(got.out, "step%-000030 .*broken: .*model.safetensors: is not what was written")
end

return {
  { "numbers that are none are counted, of every dtype", odd_numbers },
  { "folders, GGUF, state; layers share a line", files_of_all_kinds },
  { "what is no file of tensors is refused", what_cannot_be_looked_at },
  { "a run's checkpoints, the best and the broken one", a_runs_checkpoints },
}
