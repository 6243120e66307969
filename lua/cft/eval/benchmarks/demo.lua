--- The demo's world: its held-out solutions, whose critiques the model writes; right where the verdict is the truth
local data = require "cft.data.open"
local demo = require "cft.demo"
local template = require "cft.text.template"

local SEED = 7  -- another one than that of recipes, so that what selects is not what the demo reports at its end

return {
  name = "demo", about = "the demo's word problems: 240 solutions to judge", rules = true, no_votes = true,
  records = function() return data.generate(demo.tests, demo.heldout(SEED), { name = "demo", schema = "none" }) end,
  stop = {}, max_new = 64,
  problem = function(record)
    return { question = record.instruction .. "\n" .. record.input, reference = record.right and "right" or "wrong" }
  end,
  -- As the recipes of the demo write it: template "qwen" with its system text.
  messages = function(problem) return "You are a helpful assistant.", problem.question end,
  grade = function(problem, text)
    local says = template.verdict(text)
    local word = says == nil and "" or says and "right" or "wrong"
    return { verdict = word == problem.reference and "right" or "wrong", answer = word,
             reason = says == nil and "no verdict" or word == problem.reference and "the verdict" or "the other verdict" }
  end,
}
