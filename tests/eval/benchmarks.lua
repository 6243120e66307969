-- The benchmarks' own files: how many problems, and what of them is asked. Data by CFT_SHARED_DATA.

local benchmarks = require "cft.eval.benchmarks"
local expect = require "tests.expect"
local host = require "cft.host"
local problems = require "cft.eval.problems"
local prompts = require "cft.eval.prompts"

local counts = { gsm8k = 1319, ["math-500"] = 500, math = 5000, ["math-validation"] = 500, ["minerva-math"] = 272,
                 olympiadbench = 675, aime24 = 30, amc23 = 40, theoremqa = 800 }

-- A tokenizer that gives back the text.
local fake = { encode = function(_, text) return text end }

return {
  { "every benchmark can be loaded", function()
    for _, name in ipairs(benchmarks.names) do expect.same(benchmarks.get(name).name, name) end
  end },
  { "problems of the published files", function()
    local folder = os.getenv "CFT_SHARED_DATA" or "../shared/data"
    if host.kind(folder) ~= "folder" then skip(folder .. " is not there (CFT_SHARED_DATA): no benchmark files") end
    for name, n in pairs(counts) do
      local list = problems.read(benchmarks.get(name), folder)
      expect.same(#list, n, name)
      for _, p in ipairs(list) do expect.truthy(#p.question > 0 and type(p.reference) == "string", name) end
    end
    local function reference(name, i) return problems.read(benchmarks.get(name), folder, false, i)[i].reference end
    expect.same(reference("gsm8k", 1), "18")
    expect.same(reference("math-500", 1), "\\left( 3, \\frac{\\pi}{2} \\right)")
    expect.same(reference("minerva-math", 1), "1.6")
    expect.same(reference("amc23", 1), "27")
    expect.same(reference("olympiadbench", 1), "2")
  end },
  { "references pass as answers in boxes", function()
    local folder = os.getenv "CFT_SHARED_DATA" or "../shared/data"
    if host.kind(folder) ~= "folder" then skip(folder .. " is not there (CFT_SHARED_DATA): no benchmark files") end
    for _, name in ipairs { "gsm8k", "math-500", "amc23" } do
      local bench, right = benchmarks.get(name), 0
      local list = problems.read(bench, folder)
      for _, p in ipairs(list) do
        for _, mode in ipairs { "symbolic", "paper" } do
          if bench.grade(p, "So it is $\\boxed{" .. p.reference .. "}$.", mode).verdict == "right" then right = right + 1 end
        end
      end
      expect.truthy(right >= 2 * #list * 0.995, ("%s: %d of %d"):format(name, right, 2 * #list))
    end
  end },
  { "prompts, letter by letter", function()
    local bench, problem = benchmarks.get "gsm8k", { question = "How many?", reference = "1" }
    expect.same(prompts.ids(fake, bench, problem, "chatml", "x"),
      "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
      .. "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n")
    expect.same(prompts.ids(fake, bench, problem, "deepseek", "x"),
      "User: How many?\nPlease reason step by step, and put your final answer within \\boxed{}.\n\nAssistant:")
    expect.same(prompts.ids(fake, bench, problem, "plain", "x"),
      "How many?\nPlease reason step by step, and put your final answer within \\boxed{}.\n")
  end },
}
