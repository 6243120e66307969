--- Runs beside each other: are their steps and weights the same?
-- @module tests.runs

local expect = require "tests.expect"
local golden = require "tests.golden"
local journals = require "cft.train.journal"
local op = require "tests.op"

local M = {}

--- The losses and norms of a run, and the samples of its steps in order of their numbers.
-- @string folder its `out`
function M.steps_of(folder)
  local entries, last = journals.read(folder)
  local list = {}
  for step = 1, last do
    local e = entries[step]
    list[step] = { loss = e.loss, norm = e.grad_norm, tokens = e.tokens, weight = e.weight, samples = {} }
    for k, number in ipairs(e.samples) do list[step].samples[k] = number end
    table.sort(list[step].samples)
  end
  return list
end

--- Numbers of some weights, in one list. @string folder of a checkpoint
function M.weights_of(folder)
  local get, list = golden.open(folder .. "/model.safetensors"), {}
  for _, name in ipairs { "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
                          "model.layers.1.mlp.down_proj.weight", "model.norm.weight" } do
    local t = get(name)
    for _, v in ipairs(op.numbers(t)) do list[#list + 1] = v end
    t:release()
  end
  return list
end

--- Two numbers, or texts of such, within a share of the larger one.
function M.near(a, b, relative, what)
  a, b = tonumber(a), tonumber(b)
  expect.truthy(math.abs(a - b) <= relative * math.max(math.abs(a), math.abs(b)), ("%s: %.9g and %.9g"):format(what, a, b))
end

--- The same steps: samples, weights, and losses but for rounding. @tab a of `steps_of` @tab b
function M.same_run(a, b)
  expect.same(#a, #b)
  for step = 1, #a do
    M.near(a[step].loss, b[step].loss, 1e-5, "loss of step " .. step)
    M.near(a[step].norm, b[step].norm, 1e-4, "norm of step " .. step)
    expect.same({ b[step].tokens, b[step].weight, b[step].samples }, { a[step].tokens, a[step].weight, a[step].samples })
  end
end

--- The same weights but for rounding. @string a folder of a checkpoint @string b
function M.same_weights(a, b)
  local x, y, most = M.weights_of(a), M.weights_of(b), 0
  for i, v in ipairs(x) do most = math.max(most, math.abs(v - y[i])) end
  expect.truthy(most < 2e-5, ("weights differ by %g"):format(most))
end

return M
