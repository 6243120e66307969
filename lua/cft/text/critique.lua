--- Critique templates: a question, a solution and what a critic says of it become a conversation to train on.
--
-- What has loss weight is one of: the paper's critique, one that goes on to a corrected solution, one that
-- says the verdict first, or your own. A template is a list of parts for the user and one for the answer, so
-- every token knows what it is (`query`, `response`, `critique`, `verdict`), for weights and for the ledger.
-- @module cft.text.critique
-- @usage local paper = cft.critique.paper()
-- local record = paper { question = "2 + 3?", solution = "6", critique = "The sum is 5.", right = false }
-- print(record.messages[2].content[2].text)   --> Conclusion: wrong [END]
-- -- in a recipe: cft.recipe.run(cfg, { name = "mine", fields = cft.critique.paper { solution = "attempt" } })

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local json = require "cft.base.json"
local template = require "cft.text.template"

local M = {}

--- The instruction of the paper's data.
M.instruction = "Please critique whether the following solution to the question is correct."

local SLOTS = { question = true, solution = true, critique = true, correction = true, verdict = true,
  instruction = true }

-- ---- what a record says ------------------------------------------------------------------------

-- A critique without the frame that the paper's data put around it.
local function body_of(text)
  text = text:gsub("^Critique:%s*", "")
  local before = text:match "^(.*)Conclusion"
  return (before or text):match "^.*%S" or ""
end

local WORDS = { right = true, correct = true, ["true"] = true, wrong = false, incorrect = false, ["false"] = false }

-- Whether the solution is right: what the record says, else what its critique concludes.
local function verdict_of(value, critique)
  if type(value) == "boolean" then return value end
  if type(value) == "string" then return WORDS[value:lower()] end
  if value == nil then return template.verdict(critique) end
end

-- ---- a template --------------------------------------------------------------------------------

local function check_parts(where, parts)
  check.value("critique.new", where, parts, { "table" })
  for i, part in ipairs(parts) do
    if type(part) ~= "table" or type(part[1]) ~= "string" or type(part[2]) ~= "string" then
      blame("critique.new: part %d of '%s' is no { kind, text }", i, where)
    end
    for slot in part[2]:gmatch "{(%w+)}" do
      if not SLOTS[slot] then
        blame("critique.new: part %d of '%s' has {%s}%s", i, where, slot, check.suggestion(slot, SLOTS))
      end
    end
    if part.when ~= nil and part.when ~= "right" and part.when ~= "wrong" then
      blame("critique.new: 'when' of part %d of '%s' is 'right' or 'wrong', got %s", i, where, tostring(part.when))
    end
  end
  if #parts == 0 then blame("critique.new: '%s' has no parts", where) end
end

-- The texts of parts, without those that are empty or for another verdict.
local function fill(parts, values, right)
  local out, missing = {}, nil
  for _, part in ipairs(parts) do
    if part.when == nil or (part.when == "right") == right then
      local text = part[2]:gsub("{(%w+)}", function(slot)
        if values[slot] == nil then missing = missing or slot end
        return values[slot]
      end)
      local verdict
      if part[1] == "verdict" then verdict = right end
      if text ~= "" then out[#out + 1] = { text = text, kind = part[1], verdict = verdict } end
    end
  end
  return out, missing
end

-- A record's conversation; nil and a reason.
local function conversation(self, record)
  local function field(name)
    local value = record[self.fields[name] or name]
    if value ~= json.null then return value end
  end
  local values = { instruction = self.instruction }
  for _, name in ipairs { "question", "solution", "critique", "correction" } do
    local value = field(name)
    if value ~= nil and type(value) ~= "string" then
      return nil, ("'%s' is no text but a %s"):format(self.fields[name] or name, type(value))
    end
    values[name] = value
  end
  local right = verdict_of(field "right", values.critique or "")
  if right == nil then
    return nil, ("'%s' does not say whether the solution is right, and neither does the critique")
      :format(self.fields.right or "right")
  end
  values.critique = values.critique and body_of(values.critique)
  values.verdict = right and self.right or self.wrong
  local user, missing = fill(self.user, values, right)
  local answer, missing_too = fill(self.answer, values, right)
  missing = missing or missing_too
  if missing then return nil, ("there is no '%s'"):format(self.fields[missing] or missing) end
  return { messages = { { role = "user", content = user }, { role = "assistant", content = answer } } }
end

-- What is asked of a critic: the user's parts of a record that nobody has judged yet; nil and a reason.
local function question_of(self, record)
  local values = { instruction = self.instruction }
  for _, name in ipairs { "question", "solution" } do
    local value = record[self.fields[name] or name]
    if type(value) ~= "string" then
      return nil, ("'%s' is no text but a %s"):format(self.fields[name] or name, type(value))
    end
    values[name] = value
  end
  local parts, missing = fill(self.user, values)
  if missing then return nil, ("a critic cannot be asked: its question has {%s}"):format(missing) end
  return parts
end

-- The verdict in a text of this form, and the first and the last byte of its word; nil where there is none.
local function verdict_in(self, text)
  local at, literal
  for i, part in ipairs(self.answer) do
    literal = part[1] == "verdict" and part[2]:match "^(.-){verdict}"
    if literal then at = i break end
  end
  if not at then return template.verdict(text) end
  local stop
  if at == 1 then  -- it comes first; else the last one counts
    stop = literal == "" and 0 or select(2, text:find(literal, 1, true))
  else
    local from = 1
    repeat
      local _, last = text:find(literal, from, true)
      stop, from = last or stop, last and last + 1
    until not last or literal == ""
  end
  local from, line
  if stop then from, line = text:match("^%s*()([^\n]*)", stop + 1) end
  if not line then return nil end
  line = line:lower()
  local longer, shorter = self.wrong:lower(), self.right:lower()
  local says = { [longer] = false, [shorter] = true }
  if #shorter > #longer then longer, shorter = shorter, longer end  -- "correct" is in "incorrect"
  for _, word in ipairs { longer, shorter } do
    if line:sub(1, #word) == word then return says[word], from, from + #word - 1 end
  end
  return nil
end

--- A critique template of your own. A part is `{ kind, text }`, and `when = "wrong"` or `"right"` for one
-- that is there only then; `{question}`, `{solution}`, `{critique}`, `{correction}`, `{verdict}` and
-- `{instruction}` in its text are the record's. What they hold is taken as it is.
-- @tab opts
-- @tab opts.user parts of what is asked
-- @tab opts.answer parts of what has loss weight
-- @string[opt] opts.instruction the paper's if absent
-- @string[opt="right"] opts.right how a right verdict is said
-- @string[opt="wrong"] opts.wrong how a wrong one is
-- @tab[opt] opts.fields names in the records: `{ question = "problem", right = "is_correct" }`
-- @treturn function of a record, for `fields` of a recipe or of `data.open`: gives `{ messages }`, or nil and a reason
-- @treturn function of a text that a model wrote in this form: true, false, or nil where there is no verdict; and the first
-- and the last byte of its word, where the form has a place for it
-- @treturn function of a record's question and solution: the parts of what a critic is asked, or nil and a reason
-- @usage local mine = cft.critique.new {
--   user = { { "query", "{question}\n\nSolution:\n" }, { "response", "{solution}" } },
--   answer = { { "verdict", "Verdict: {verdict}." }, { "critique", " {critique}" } },
--   right = "sound", wrong = "flawed",
-- }
function M.new(opts)
  local o = check.options("critique.new", opts, {
    user = { "table" }, answer = { "table" }, instruction = { "string", M.instruction },
    right = { "string", "right" }, wrong = { "string", "wrong" }, fields = { "table", {} },
  })
  check_parts("user", o.user)
  check_parts("answer", o.answer)
  for name, field in pairs(o.fields) do
    if not SLOTS[name] and name ~= "right" or name == "verdict" or name == "instruction" then
      blame("critique.new: fields has '%s'%s", tostring(name), check.suggestion(tostring(name),
        { "question", "solution", "critique", "correction", "right" }))
    end
    check.value("critique.new", "fields." .. name, field, { "string" })
  end
  return function(record) return conversation(o, record) end, function(text) return verdict_in(o, text) end,
    function(record) return question_of(o, record) end
end

-- ---- the ones that are there -------------------------------------------------------------------

local ASKED = { { "query", "{instruction}\nQuestion:\n{question}\n\nSolution:\n" }, { "response", "{solution}" } }
local CRITIQUE, CONCLUSION = { "critique", "Critique:\n{critique}\n\n" }, { "verdict", "Conclusion: {verdict} [END]" }

-- @tab[opt] fields names in the records, see `new`
local function preset(answer, instruction)
  return function(fields) return M.new { user = ASKED, answer = answer, instruction = instruction, fields = fields } end
end

--- The paper's: a critique that closes with its verdict.
M.paper = preset { CRITIQUE, CONCLUSION }

--- One that asks for a corrected solution, `correction`, where the solution is wrong.
-- @usage local record = cft.critique.corrected() {
--   question = "2 + 3?", solution = "6", critique = "No.", correction = "5", right = false,
-- }
-- print(record.messages[2].content[1].text)   --> Critique: No.  
M.corrected = preset(
  { CRITIQUE, { "correction", "Corrected solution:\n{correction}\n\n", when = "wrong" }, CONCLUSION },
  M.instruction .. " If it is not, correct it.")

--- One with the verdict first: what decides is one token that no critique stands before.
-- @usage local form = cft.critique.verdict_first()
-- local record = form { question = "2 + 3?", solution = "5", critique = "Fine.", right = true }
-- print(record.messages[2].content[1].text)   --> Conclusion: right  
M.verdict_first = preset({ { "verdict", "Conclusion: {verdict}\n\n" }, { "critique", "Critique:\n{critique} [END]" } },
  M.instruction .. " Say first whether it is, then why.")

--- The instruction of critiques step by step.
M.step_instruction = "Please critique the following solution to the question step by step, up to its first wrong step."

-- A field of a record of steps: what `fields` calls it, else the first of these names that is there.
local function step_field(record, fields, ...)
  for _, name in ipairs { ... } do
    local value = record[fields[name] or name]
    if value ~= nil and value ~= json.null then return value end
  end
end

local function texts_or_reason(list, name)
  if type(list) ~= "table" or #list == 0 then return nil, ("'%s' is no list of texts"):format(name) end
  for _, text in ipairs(list) do
    if type(text) ~= "string" then return nil, ("'%s' has a %s where texts are wanted"):format(name, type(text)) end
  end
  return list
end

-- A record of steps as a conversation; nil and a reason.
local function judged_steps(record, fields)
  local question, label = step_field(record, fields, "question", "problem"), step_field(record, fields, "label")
  local steps, why = texts_or_reason(step_field(record, fields, "steps"), fields.steps or "steps")
  if not steps then return nil, why end
  if type(question) ~= "string" then return nil, "there is no 'question' or 'problem', a text" end
  if type(label) ~= "number" or label % 1 ~= 0 or label < -1 or label >= #steps then
    return nil, ("'label' is the first wrong step, from 0 to %d, or -1; got %s"):format(#steps - 1, tostring(label))
  end
  local critiques = step_field(record, fields, "critiques")
  if critiques then
    critiques, why = texts_or_reason(critiques, fields.critiques or "critiques")
    if not critiques then return nil, why end
  end
  local numbered, answer, right = {}, {}, label == -1
  for i, step in ipairs(steps) do numbered[i] = ("Step %d: %s"):format(i, step) end
  for i = 1, right and #steps or label + 1 do
    local sound = i ~= label + 1
    if critiques and critiques[i] then answer[#answer + 1] = { text = critiques[i] .. "\n", kind = "critique" } end
    answer[#answer + 1] = { text = ("Step %d: %s\n"):format(i, sound and "right" or "wrong"), kind = "verdict",
                            verdict = sound }
  end
  answer[#answer + 1] = { text = ("\nConclusion: %s [END]"):format(right and "right" or "wrong"), kind = "verdict",
                          verdict = right }
  local user = { { text = M.step_instruction .. "\nQuestion:\n" .. question .. "\n\nSolution:\n", kind = "query" },
                 { text = table.concat(numbered, "\n"), kind = "response" } }
  return { messages = { { role = "user", content = user }, { role = "assistant", content = answer } } }
end

--- Critiques step by step, of records as ProcessBench has them (`problem`, `steps`, and `label`, the first
-- wrong step from 0, or -1): a verdict a step, up to the first wrong one, behind which nobody knows, and that
-- of the whole. `critiques`, a list of texts, stand before the verdicts of their steps where a record has
-- them.
-- @tab[opt] fields names in the records: `{ question = "problem", steps = "lines" }`
-- @treturn function of a record, for `fields` of a recipe or of `data.open`: gives `{ messages }`, or nil and a reason
-- @usage local make = cft.critique.steps()
-- local record = make { problem = "2 + 3 + 1?", steps = { "2 + 3 = 5", "5 + 1 = 7" }, label = 1 }
-- print(record.messages[2].content[2].text)   --> Step 2: wrong
function M.steps(fields)
  fields = fields or {}
  for name in pairs(fields) do
    if not ({ question = 1, problem = 1, steps = 1, label = 1, critiques = 1 })[name] then
      blame("critique.steps: fields has '%s'%s", tostring(name),
            check.suggestion(tostring(name), { "question", "steps", "label", "critiques" }))
    end
  end
  return function(record) return judged_steps(record, fields) end
end

return M
