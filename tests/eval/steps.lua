-- First wrong steps: the prompt, the index, F1 by its definition.

local benchmarks = require "cft.eval.benchmarks"
local expect = require "tests.expect"
local host = require "cft.host"
local problems = require "cft.eval.problems"
local steps = require "cft.eval.steps"

local function near(a, b) expect.truthy(math.abs(a - b) < 1e-12, ("%.12g is not %.12g"):format(a, b)) end

local function entry(label, verdict, part)
  return { problem = { reference = label, part = part }, samples = { { verdict = verdict } } }
end

return {
  { "the index of the last box", function()
    local p = { reference = "-1" }
    for text, verdict in pairs { ["\\boxed{-1}"] = "right", ["\\boxed{0} no, \\boxed{ -1 }"] = "right", ["\\boxed{1}"] = "wrong", ["-1"] = "wrong",
                                 ["\\boxed{none}"] = "wrong", ["\\boxed{}"] = "wrong" } do
      expect.same(steps.grade(p, text).verdict, verdict, text)
    end
  end },
  { "F1 is the harmonic mean of both shares", function()
    local entries = { entry("2", "right"), entry("0", "wrong"), entry("1", "wrong"), entry("3", "wrong"), entry("-1", "right"), entry("-1", "wrong") }
    local rows = steps.summary(entries)
    near(rows[1][2], 1 / 4)
    near(rows[2][2], 1 / 2)
    near(rows[3][2], 2 * 0.25 * 0.5 / 0.75)
    near((steps.f1 { entry("2", "wrong"), entry("-1", "wrong") }), 0)
    local two = steps.summary { entry("2", "right", "a"), entry("-1", "right", "a"), entry("2", "wrong", "b"), entry("-1", "right", "b") }
    expect.same({ two[1][1], two[2][1], two[3][1] }, { "F1 a", "F1 b", "F1" })
    near(two[3][2], 0.5)
  end },
  { "the prompt; records of both forms", function()
    local record = { problem = "P", steps = { "s0", "s1" }, label = 1 }
    local p = steps.problem(record)
    expect.truthy(p.question:find("[Math Problem]\n\nP\n\n[Solution]\n\n<paragraph_0>\ns0\n</paragraph_0>\n\n<paragraph_1>\ns1\n</paragraph_1>\n\nYour",
                                  1, true), p.question)
    local bench = benchmarks.get "mr-gsm8k"
    local own = { question = "P", model_output_steps = { "s0", "s1" }, model_output_solution_correctness = "wrong",
                  model_output_solution_first_error_step = 2 }
    expect.same(bench.problem(own), p)
    own.model_output_solution_correctness = "correct"
    expect.same(bench.problem(own).reference, "-1")
    expect.same({ steps.problem { problem = "P", steps = {}, label = 0 } }, { nil, "it has no problem, steps (texts) and label (a whole number)" })
  end },
  { "the published files", function()
    local folder = os.getenv "CFT_SHARED_DATA" or "../shared/data"
    if host.kind(folder) ~= "folder" then skip(folder .. " is not there (CFT_SHARED_DATA): no benchmark files") end
    local list = problems.read(benchmarks.get "processbench", folder)
    local parts = {}
    for _, p in ipairs(list) do parts[p.part] = (parts[p.part] or 0) + 1 end
    expect.same(parts, { gsm8k = 400, math = 1000, olympiadbench = 1000 })
    expect.same(#problems.read(benchmarks.get "mr-gsm8k", folder), 1418)
  end },
}
