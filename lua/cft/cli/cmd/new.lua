--- write a commented recipe, for the columns of a file of yours
--
--   cftrun new NAME [DATA]
--              [--question COLUMN] [--solution COLUMN] [--critique COLUMN] [--answer COLUMN] [--right COLUMN]
--
-- Writes NAME.lua, which must not be there. DATA is a file, a pattern or a name in the Hub's cache; its first
-- records say which columns are what, and where their names do not tell, the options do. With a solution and a
-- critique it is a recipe for Critique Fine-Tuning, else for imitation of answers.

local check = require "cft.base.check"
local exit = require "cft.base.exit"
local host = require "cft.host"
local texts = require "cft.base.text"

local M = {}

local LOOKED_AT = 50  -- records whose columns are read

-- What columns are called elsewhere, the likeliest first.
local names = {
  question = { "question", "problem", "query", "instruction", "prompt", "q", "input" },
  solution = { "solution", "attempt", "response", "student_solution", "noisy_solution", "model_answer" },
  critique = { "critique", "feedback", "review", "comment", "assessment" },
  answer = { "answer", "output", "completion", "target", "chosen", "solution", "response", "a" },
  right = { "right", "correct", "is_correct", "ok", "label", "verdict" },
}
local roles = { "question", "solution", "critique", "answer", "right" }

-- ---- the arguments -----------------------------------------------------------------------------

local function parse(args)
  local o, i = { is = {} }, 1
  while args[i] do
    local name, value = args[i]:match "^%-%-(%a+)=(.*)$"
    name = name or args[i]:match "^%-%-(%a+)$"
    if args[i] == "--help" or args[i] == "-h" then
      o.help = true
    elseif name then
      if not names[name] then
        exit.fail(exit.USAGE, "new: unknown option '--%s'%s", name, check.suggestion(name, names))
      end
      if not value then i, value = i + 1, args[i + 1] end
      o.is[name] = value or exit.fail(exit.USAGE, "new: --%s wants a column", name)
    elseif not o.name then
      o.name = args[i]
    elseif not o.data then
      o.data = args[i]
    else
      exit.fail(exit.USAGE, "new: one file of data, got '%s' too", args[i])
    end
    i = i + 1
  end
  return o
end

-- ---- columns -----------------------------------------------------------------------------------

-- The columns of the first records, in the order of their names; and the first record.
local function columns_of(path)
  local source = require "cft.data.open".open(path, { schema = "none" })
  local set, list, first = {}, {}, nil
  for i = 0, math.min(source:size(), LOOKED_AT) - 1 do
    local record = source:get(i)
    first = first or record
    for name in pairs(record or {}) do
      if type(name) == "string" and not set[name] then
        set[name] = true
        list[#list + 1] = name
      end
    end
  end
  table.sort(list)
  if not first then exit.fail(exit.FAILED, "new: none of the first records of %s can be read", path) end
  return set, list, first
end

-- Which column is what: what the author said, else by its name. A column is one thing.
local function decide(o, set, list)
  local is, used = {}, {}
  local function take(role, column) is[role], used[column] = column, true end
  for role, column in pairs(o.is) do
    if not set[column] then
      exit.fail(exit.USAGE, "new: no column '%s' among %s%s", column, table.concat(list, ", "), check.suggestion(column, list))
    end
    take(role, column)
  end
  for _, role in ipairs(roles) do
    for _, column in ipairs(is[role] and {} or names[role]) do
      if set[column] and not used[column] and not is[role] then take(role, column) end
    end
  end
  return is
end

-- ---- the recipe --------------------------------------------------------------------------------

local function quoted(text) return texts.quoted(text) end

-- The lines that say which column is what; nil where records are understood as they are.
local function fields(o, path)
  local set, list, first = columns_of(path)
  if not next(o.is) and (set.messages or set.conversations or set.instruction and set.output) then return nil, "sft" end
  local is = decide(o, set, list)
  if is.question and is.solution and is.critique then
    return ("  fields = cft.critique.paper { question = %s, solution = %s, critique = %s%s },"):format(quoted(is.question),
      quoted(is.solution), quoted(is.critique), is.right and ", right = " .. quoted(is.right) or ""), "cft", first
  end
  local answer = is.answer or is.solution
  if is.question and answer then
    return ("  fields = function(r) return { instruction = r[%s], output = r[%s] } end,"):format(quoted(is.question),
      quoted(answer)), "sft", first
  end
  exit.fail(exit.USAGE, "new: the columns of %s do not say what they are: %s. Name them: --question COLUMN --answer COLUMN, or "
    .. "--question COLUMN --solution COLUMN --critique COLUMN", path, table.concat(list, ", "))
end

local TEXT = [[
-- %s: %s.
--
--   cftrun %s --preview 3     what the model sees; what has loss weight is marked
--   cftrun data %s            counts, lengths, what is odd
--   cftrun %s                 train; key=value sets what stands below
--   cftrun %s model=PATH      with weights: a folder, a .gguf file or a name in the Hub's cache
local cft = require "cft"

local cfg = cft.config {
  data = %s,
  template = "chatml",       -- or another preset, or the model's own family: docs/templates.md
  heldout = 0.05,            -- records that are not trained on, for the held-out loss
  epochs = 1, batch = 32,    -- samples of an optimizer step
  tokens = 4096,             -- of a micro-batch; smaller takes less memory
  lr = 1e-5, warmup = 0.03, schedule = "cosine", seed = 42,
}

cft.recipe.run(cfg, {
  name = %s,
%s  -- Where model= names none: a tiny model of random weights with the words of these records, to try things.
  tokenizer = cft.demo.words, model = cft.demo.tiny,
})
]]

local about = { cft = "Critique Fine-Tuning", sft = "supervised fine-tuning" }

--- `cftrun new`.
-- @tab args
function M.run(args)
  local o = parse(args)
  if o.help then return print "cftrun new NAME [DATA] [--question COLUMN] [--solution COLUMN] [--critique COLUMN] [--answer COLUMN] [--right COLUMN]" end
  if not o.name then exit.fail(exit.USAGE, "new: a name is wanted: cftrun new NAME [DATA]") end
  if o.name:find "[^%w_./-]" or o.name:find "^%-" then
    exit.fail(exit.USAGE, "new: a name of letters, digits, _ and - is wanted, got %s", quoted(o.name))
  end
  local path = o.name:gsub("%.lua$", "") .. ".lua"
  if host.kind(path) then exit.fail(exit.USAGE, "new: %s is there already", path) end
  if not o.data and next(o.is) then exit.fail(exit.USAGE, "new: columns are named, but no DATA") end
  local line, kind = nil, "sft"
  if o.data then line, kind = fields(o, o.data) end
  local name = path:match "([^/]+)%.lua$"
  local mapping = line and "  -- Which column is what.\n" .. line .. "\n" or "  -- The records are understood as they are: docs/data.md.\n"
  require "cft.io.files".write(path, TEXT:format(name, about[kind], path, path, path, path, quoted(o.data or "train.jsonl"),
    quoted(name), mapping))
  print(("%s is written; next: cftrun %s --preview 3"):format(path, path))
end

return M
