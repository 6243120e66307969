--- IFEval: 541 prompts with instructions that a program can check
local ifeval = require "cft.eval.ifeval"
local json = require "cft.base.json"
local language = require "cft.eval.ifeval.language"
local score = require "cft.eval.score"

-- Arguments without those that are null, which the Hub's table has for every instruction.
local function arguments_of(kwargs)
  local o = {}
  for name, value in pairs(type(kwargs) == "table" and kwargs or {}) do
    if value ~= json.null then o[name] = value end
  end
  return o
end

local function instructions_of(record)
  local list = {}
  for i, kind in ipairs(record.instruction_id_list) do
    if not ifeval.rules[kind] then return nil, ("its instruction '%s' has no check"):format(tostring(kind)) end
    list[i] = { kind = kind, arguments = arguments_of(record.kwargs[i]) }
  end
  return list
end

-- The verdict on an answer: right where all are followed strictly.
local function verdict_of(parts)
  local missed, unchecked = {}, {}
  for _, part in ipairs(parts) do
    if part.strict == nil then unchecked[#unchecked + 1] = part.kind .. " not checked: " .. tostring(part.why)
    elseif not part.strict then missed[#missed + 1] = part.kind .. (part.loose and " (followed loosely)" or "") end
  end
  if #missed > 0 then return "wrong", "not followed: " .. table.concat(missed, ", ") end
  if #unchecked > 0 then return "unknown", table.concat(unchecked, ", ") end
  return "right", "all instructions are followed"
end

-- Shares over entries: of prompts whose instructions all have `field`, of instructions that have it.
local function row(entries, field)
  local prompts, instructions = {}, {}
  for _, entry in ipairs(entries) do
    local all = true
    for _, part in ipairs(entry.samples[1].parts) do
      all = all and part[field] == true
      instructions[#instructions + 1] = part[field] and 1 or 0
    end
    prompts[#prompts + 1] = all and 1 or 0
  end
  return prompts, instructions
end

return {
  name = "ifeval", about = "IFEval: 541 prompts with instructions that a program can check",
  places = { "ifeval/input_data.jsonl" }, hub = "google/IFEval", stop = { "</s>", "<|im_end|>", "<|endoftext|>" }, max_new = 1280,
  rules = true, checks = function() return "languages by " .. (language.detector() or "nothing: they are not checked") end,
  no_votes = true,
  problem = function(record)
    if type(record.prompt) ~= "string" or type(record.instruction_id_list) ~= "table" or type(record.kwargs) ~= "table" then
      return nil, "it has no prompt, instruction_id_list and kwargs"
    end
    local list, why = instructions_of(record)
    if not list then return nil, why end
    return { question = record.prompt, instructions = list, key = record.key }
  end,
  messages = function(problem) return nil, problem.question end,
  grade = function(problem, text)
    local parts = ifeval.check(text, problem.instructions)
    local verdict, reason = verdict_of(parts)
    return { verdict = verdict, reason = reason, answer = "", parts = parts }
  end,
  summary = function(entries)
    local rows = {}
    for _, field in ipairs { "strict", "loose" } do
      local prompts, instructions = row(entries, field)
      if field == "loose" then rows[#rows + 1] = { "loose", score.mean(prompts) } end
      rows[#rows + 1] = { field .. " instructions", score.mean(instructions) }
    end
    return rows
  end,
}
