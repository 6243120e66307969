-- A loss of one's own: its value is logged and its gradient is that of its formula. recipes/loop.lua and its length.

local batch = require "cft.samples.batch"
local cft = require "cft"
local data = require "cft.data.open"
local demo = require "cft.demo"
local expect = require "tests.expect"
local models = require "cft.models"
local op = require "tests.op"
local process = require "tests.process"
local samples = require "cft.samples"
local template = require "cft.text.template"

-- recipes/loop.lua's loss, with `focus`.
local function focal_of(focus)
  local text = process.contents "recipes/loop.lua":match "(local function focal.-\nend\n)"
  return assert(loadstring("local cft, cfg = ...; " .. text .. " return focal"))(cft, { focus = focus })
end

local tok = demo.tokenizer(1)
local function small()
  return models.new { arch = "qwen2", d = 8, layers = 1, heads = 2, ffn = 12, vocab = tok:size(), tied = true, init = 0.4,
                      seed = 2, device = "cpu" }
end
local function micro()
  local made = samples.new(data.generate(2, demo.training(1)), template.chatml { learn = { verdict = 3, rest = 1 } }, tok)
  return (batch.new(made, { batch = 2, tokens = 400 }):update(0, 0))[1].batch
end

-- By hand: from each row's -log p.
local function value_of(model, b, focus)
  return cft.no_grad(function()
    return cft.scope(function()
      local _, nll, at = model:loss(b)
      local n, w, sum = op.numbers(nll), op.numbers(at.weights), 0
      for i, v in ipairs(n) do sum = sum + w[i] * (1 - math.exp(-v)) ^ focus * v end
      return sum
    end)
  end)
end

-- Code of a file: lines that are neither empty nor comments alone.
local function code_lines(path)
  local n = 0
  for line in io.lines(path) do
    if line:find "%S" and not line:find "^%s*%-%-" then n = n + 1 end
  end
  return n
end

return {
  { "focal loss: value, and gradient by finite differences", function()
    local model, b = small(), micro()
    for _, focus in ipairs { 0, 2 } do
      local loss
      model:zero_grad()
      cft.scope(function()
        local l = focal_of(focus)(model, b)
        loss = l:item()
        l:backward()
      end)
      expect.close(loss, value_of(model, b, focus), 1e-4 * loss)
      local group = model.groups[2]
      local grad = op.numbers(group.grad)
      local host = op.numbers(group.flat)
      local largest = {}  -- parameters of the largest gradients, which f32 can tell from noise
      for i = 1, #grad do largest[i] = i end
      table.sort(largest, function(x, y) return math.abs(grad[x]) > math.abs(grad[y]) end)
      for k = 1, 40, 13 do
        local i = largest[k]
        local function at(shift)
          local moved = { unpack(host) }
          moved[i] = host[i] + shift
          local t = cft.tensor.new(moved, { device = "cpu" })
          group.flat:copy_(t)
          t:release()
          return value_of(model, b, focus)
        end
        local slope = (at(5e-3) - at(-5e-3)) / 1e-2
        at(0)
        expect.close(grad[i], slope, 0.02 * math.abs(slope), ("parameter %d, focus %g"):format(i, focus))
      end
    end
    model:release()
  end },
  { "recipes/loop.lua is at most 25 lines of code, recipes/sft_vs_cft.lua at most 80 in all", function()
    expect.truthy(code_lines "recipes/loop.lua" <= 25, code_lines "recipes/loop.lua")
    local _, n = process.contents "recipes/sft_vs_cft.lua":gsub("\n", "")
    expect.truthy(n <= 80, n)
  end },
  { "a loss without -log p has no ledger; held-out records are measured by -log p all the same", function()
    local path = process.write(process.folder() .. "/r.lua", [[
      local cft = require "cft"
      local cfg = cft.config { data = "recipes/data/problems.jsonl", template = "plain", batch = 4, tokens = 1024, steps = 2,
                               heldout = 8, device = "cpu", dtype = "f32", lr = 0 }
      local run = cft.recipe.prepare(cfg, { name = "r", fields = function(r) return { instruction = r.question, output = r.answer } end,
                                            tokenizer = cft.demo.words, model = cft.demo.tiny })
      run:trainer { loss = function(model, batch) return model:loss(batch) * 2 end }
      local first
      for t in run:steps() do
        first = first or t.loss
        print(next(t.ledger) == nil)
      end
      print(first > 1.7 * run.summary.heldout_loss_after)
    ]])
    local r = process.cftrun { path }
    expect.same({ r.code, r.err }, { 0, "" }, r.out)
    expect.match(r.out, "\ntrue\n.*\ntrue\n.*\ntrue\n$")
  end },
}
