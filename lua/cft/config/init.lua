--- A recipe's settings: its defaults, and what the command line makes of them.
--
-- The types of the keys come from the defaults, so that `lr=fast` and `lrr=1e-5` are errors before
-- anything is loaded. Keys that all training recipes share have a default and a line of help here;
-- a recipe lists those it wants otherwise, and its own.
-- @module cft.config
-- @usage local cfg = cft.config {
--   model = "Qwen/Qwen2.5-Math-7B", batch = 512, lr = 5e-6,      -- common ones, other defaults
--   steps_a_problem = 3,                                         -- one of its own: a number
--   rival = cft.config.optional("string", "a second model to compare with"),
-- }
-- print(cfg.lr, cfg.demo)   -- set by `lr=1e-5` and `--demo`

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local exit = require "cft.base.exit"
local optim = require "cft.train.optim"
local template = require "cft.text.template"

local M = {}

--- Options of a run, which stand before or behind the recipe's path. Each becomes a field of the
-- configuration. `takes`: what follows it; in brackets if it may be left out.
M.flags = {
  ["--demo"] = { field = "demo", help = "tiny built-in model and data, on the CPU" },
  ["--dry-run"] = { field = "dry_run", help = "check model, data and settings; train nothing" },
  ["--preview"] = { field = "preview", takes = "N", help = "show N samples as the model sees them" },
  ["--device"] = { field = "device", takes = "D", help = "cpu, cuda, cuda:1 or auto; same as device=D" },
  ["--resume"] = { field = "resume", takes = "[FOLDER]", help = "go on from the newest checkpoint, or from this one" },
}

local Key = {}

--- A key with more to say than its default.
-- @tab spec as for `check.options`: `{ "type", default }` and any of `one_of`, `min`, `max`,
-- `optional`; and `help`, one line
-- @usage cft.config { kinds = cft.config.key { "string", "all", one_of = { "all", "slip" }, help = "which errors" } }
function M.key(spec) return setmetatable(spec, Key) end

--- A key that may stay nil.
-- @string kind a type, or several: "number|string"
-- @string[opt] help one line
function M.optional(kind, help) return M.key { kind, optional = true, help = help } end

local function is_device(name)
  if name == "auto" or name == "cpu" or name:find "^cuda$" or name:find "^cuda:%d+$" then return nil end
  return "cpu, cuda, cuda:N or auto"
end

-- A check for keys that take a name, or something that has no name.
local function named(...)
  local names = { ... }
  return function(value)
    if type(value) ~= "string" then return nil end
    for _, name in ipairs(names) do
      if value == name then return nil end
    end
    return "one of " .. table.concat(names, ", ") .. check.suggestion(value, names)
  end
end

--- The keys of every recipe: { name, spec }, in the order in which `cftrun RECIPE --help` shows them.
M.common = {
  { "model", M.optional("string", "weights: a folder, a .gguf file, or a name in the local Hub cache") },
  { "data", M.optional("string|table", "training records: a file, or several with commas") },
  { "out", M.optional("string", "folder for checkpoints, log.jsonl and summary.json") },
  { "template", M.key { "string|function|table", optional = true,
                        fits = named(unpack(template.presets)),
                        help = "how a record becomes text: " .. table.concat(template.presets, ", ") } },
  { "steps", M.key { "integer", optional = true, min = 0, help = "updates; wins over epochs" } },
  { "epochs", M.key { "number", 1, min = 0, help = "passes over the data" } },
  { "batch", M.key { "integer", 32, min = 1, help = "samples an update" } },
  { "tokens", M.key { "integer", 8192, min = 1, help = "tokens a micro-batch, at most" } },
  { "lr", M.key { "number", 5e-6, min = 0, help = "learning rate at its highest" } },
  { "warmup", M.key { "number", 0.1, min = 0, help = "updates until then; below 1, a share of all" } },
  { "schedule", M.key { "string|function", "cosine", fits = named("cosine", "linear", "constant", "wsd"),
                          help = "cosine, linear, constant or wsd" } },
  { "seed", M.key { "integer", 42, min = 0, help = "of the order, and of new weights" } },
  { "dtype", M.key { "string", "auto", one_of = { "auto", "f32", "bf16" }, help = "of weights and activations" } },
  { "device", M.key { "string", "auto", fits = is_device, help = "cpu, cuda, cuda:1; auto takes a GPU where there is one" } },
  { "memory", M.optional("string", "a budget such as 8GiB: blocks are computed again so that a step fits") },
  { "heldout", M.key { "number|string", optional = true, min = 0,
                       help = "records kept out of training: how many, a share below 1, or a file" } },
  { "eval_every", M.key { "integer", optional = true, min = 1, help = "updates between held-out losses" } },
  { "save_every", M.key { "integer", optional = true, min = 1, help = "updates between checkpoints" } },
}

local policy = { "error", "drop", "keep" }

--- More keys of every recipe, for those who need them; the same form.
M.further = {
  { "max_tokens", M.key { "integer", optional = true, min = 1, help = "longest sample; if absent, that of a micro-batch" } },
  { "length", M.key { "string", "drop", one_of = { "drop", "cut_context", "llamafactory" }, help = "what becomes of longer ones" } },
  { "cut_side", M.key { "string", "right", one_of = { "left", "right" }, help = "the side cut_context takes from" } },
  { "no_learned", M.key { "string", "error", one_of = policy, help = "samples without a learned token" } },
  { "all_learned", M.key { "string", "error", one_of = policy, help = "samples with nothing but learned tokens" } },
  { "double_bos", M.key { "string", "error", one_of = policy, help = "samples that begin with two begin-of-text tokens" } },
  { "template_check", M.key { "string", "log", one_of = { "log", "strict", "off" },
                              help = "what becomes of differences from the model's own chat template" } },
  { "add_tokens", M.key { "boolean", false, help = "add tokens of the template that the tokenizer lacks" } },
  { "stream", M.key { "boolean", false, help = "train at once, each record checked when its turn comes" } },
  { "limit_bad", M.key { "integer", 0, min = 0, help = "unreadable records that are passed over" } },
  { "quarantine", M.optional("string", "file that collects them") },
  { "decontaminate", M.optional("string|table", "benchmarks whose questions are looked for in the training records") },
  { "decontaminate_drop", M.key { "boolean", false, help = "leave out the records that were found" } },
  { "packing", M.key { "boolean", true, help = "samples back to back; false: padded rows, as the authors' trainer" } },
  { "rows", M.key { "integer", 8, min = 1, help = "samples a micro-batch without packing" } },
  { "share_prefix", M.key { "boolean", true, help = "compute once what samples of a pack begin with alike" } },
  { "group_by", M.key { "string|function", optional = true, fits = named("prefix"),
                        help = "prefix: samples that begin alike stand together in the order" } },
  { "drop_last", M.key { "boolean", false, help = "leave out a last, short update" } },
  { "norm", M.key { "string", "tokens", one_of = { "tokens", "rank_mean", "micro_mean" }, help = "what the loss is a mean of" } },
  { "ranks", M.key { "integer", 8, min = 1, help = "ranks that rank_mean imitates" } },
  { "gradients", M.key { "string", "f32", one_of = { "f32", "bf16" }, help = "what gradients add up in; bf16 with bf16 weights" } },
  { "skip", M.key { "boolean", true, help = "compute no logits for tokens that are not learned" } },
  { "context_loss", M.key { "boolean", false, help = "of held-out samples, measure query and response as well" } },
  { "deterministic", M.key { "boolean", false, help = "bit-equal repeats on a GPU" } },
  { "autotune", M.key { "boolean", true, help = "time a GPU's matmuls once and keep the fastest; not with deterministic" } },
}

for _, row in ipairs(optim.keys) do M.further[#M.further + 1] = { row[1], M.key(row[2]) } end

--- Keys that were, and why they are refused.
M.gone = {
  cache = "token ids are not kept between runs any more: of 5 GB a scan took 239 s without a cache, 219 s and 8.9 GB of "
    .. "disk to fill one. Leave the key out; what is kept of large files goes to $CFT_CACHE",
}

local function refuse_gone(name)
  if M.gone[name] then exit.fail(exit.USAGE, "%s: %s", name, M.gone[name]) end
end

--- The default of one of these keys, for a table of settings that does not come from here.
-- @string name
function M.default(name)
  for _, list in ipairs { M.common, M.further } do
    for _, row in ipairs(list) do
      if row[1] == name then return row[2][2] end
    end
  end
end

-- ---- the keys of one recipe ------------------------------------------------------------------

-- A recipe's default as a spec. `base` is the common key of this name, if it is one.
local function spec_of(name, default, base)
  if getmetatable(default) == Key then
    default.help = default.help or base and base.help
    return default
  end
  local spec = { type(default), default }
  for field, value in pairs(base or {}) do
    if field ~= 2 then spec[field] = value end
  end
  if spec[1] == "function" and not base then
    blame("config: '%s' is a function; a key is a number, a boolean, a string or a list", name)
  end
  local problem = check.problem(default, spec)
  if problem then blame("config: '%s' %s", name, problem) end
  return spec
end

local function specs_of(defaults)
  local specs, names = {}, {}
  for i, list in ipairs { M.common, M.further } do
    names[i] = {}
    for k, row in ipairs(list) do
      local name, base = row[1], row[2]
      names[i][k] = name
      specs[name] = defaults[name] == nil and base or spec_of(name, defaults[name], base)
    end
  end
  local own = {}
  for name, default in pairs(defaults) do
    if type(name) ~= "string" then blame("config: keys have names, but one came as [%s]", tostring(name)) end
    for _, flag in pairs(M.flags) do
      if flag.field == name and not specs[name] then
        blame("config: '%s' is an option of cftrun and cannot be a key", name)
      end
    end
    refuse_gone(name)
    if not specs[name] then
      own[#own + 1] = name
      specs[name] = spec_of(name, default)
    end
  end
  table.sort(own)
  return specs, { own = own, common = names[1], further = names[2] }
end

-- A recipe's defaults with the demo's in front: its world is small and its model new.
local function for_demo(defaults)
  local merged = {}
  for name, value in pairs(defaults) do merged[name] = value end
  for name, value in pairs(require("cft.demo").settings) do merged[name] = value end
  return merged
end

-- ---- the command line ------------------------------------------------------------------------

local words = { ["true"] = true, yes = true, on = true, ["1"] = true,
                ["false"] = false, no = false, off = false, ["0"] = false }

local read = {}  -- type → function from text to value, nil if it is none

function read.number(text)
  local x = tonumber(text)
  if x and math.abs(x) < math.huge then return x end  -- tonumber takes "nan" and "inf"
end
read.integer = read.number  -- so that 1.5 is told that it is no integer, rather than no number
function read.boolean(text) return words[text:lower()] end
function read.string(text) return text end
function read.table(text, default)
  local like = default and default[1] ~= nil and type(default[1]) or "string"
  local list = {}
  for item in (text .. ","):gmatch "([^,]*)," do
    if item ~= "" then
      local value = read[like](item)
      if value == nil then return nil end
      list[#list + 1] = value
    end
  end
  return list
end

local function value_of(name, text, spec)
  if text == "" and spec.optional then return nil end
  local value
  for _, kind in ipairs { "integer", "number", "boolean", "table", "string" } do
    local taken = ("|" .. spec[1] .. "|"):find("|" .. kind .. "|", 1, true)
    -- "string|table": a list only where there is a comma
    local plain = kind == "table" and spec[1]:find "string" and not text:find ","
    if value == nil and taken and not plain then value = read[kind](text, spec[2]) end
  end
  if value == nil then value = text end  -- for the message
  local problem = check.problem(value, spec)
  if problem then exit.fail(exit.USAGE, "%s=%s: '%s' %s", name, text, name, problem) end
  return value
end

--- How many arguments belong to the option at `args[i]`, and the option.
-- `--resume` takes the next one unless that is a script, a setting or an option.
-- @tab args
-- @int i
-- @treturn ?tab the entry of `flags`; nil if it is none
-- @return its value: true, or a string
-- @treturn int index of the next argument
function M.flag(args, i)
  local name, glued = args[i]:match "^(%-%-[%w-]+)=(.*)$"
  local flag = M.flags[name or args[i]]
  if not flag then return nil end
  name = name or args[i]
  if not flag.takes then
    if glued then exit.fail(exit.USAGE, "%s takes no value", name) end
    return flag, true, i + 1
  end
  if glued then return flag, glued, i + 1 end
  local next_one = args[i + 1]
  if flag.takes:sub(1, 1) == "[" then
    if not next_one or next_one:find "^%-" or next_one:find "=" or next_one:find "%.lua$" then
      return flag, true, i + 1
    end
  elseif not next_one then
    exit.fail(exit.USAGE, "%s wants %s behind it", name, flag.takes)
  end
  return flag, next_one, i + 2
end

local function unknown(argument, specs)
  local name, text = argument:match "^%-%-?([%w_-]+)=?(.*)$"
  if not name then
    exit.fail(exit.USAGE, "'%s' is neither key=value nor an option", argument)
  end
  local key = name:gsub("-", "_")
  if specs[key] then
    exit.fail(exit.USAGE, "unknown option '%s'; say %s=%s", argument, key, text ~= "" and text or "VALUE")
  end
  exit.fail(exit.USAGE, "unknown option '%s'%s", argument, check.suggestion("--" .. name, M.flags))
end

--- Settings from defaults and arguments; what `cft.config` does with the command line's.
-- @tab defaults
-- @tab args a list of strings, and `[0]` for the name of the script
-- @treturn table key → value. A key that is not one is an error where it is read.
function M.read(defaults, args)
  for _, argument in ipairs(args) do
    if argument == "--demo" then defaults = for_demo(defaults) end
  end
  local specs, names = specs_of(defaults)
  local values = { demo = false, dry_run = false, resume = false }
  for name, spec in pairs(specs) do values[name] = spec[2] end

  local i, help = 1, false
  while i <= #args do
    local flag, value, after = M.flag(args, i)
    local name, text = args[i]:match "^([%a_][%w_]*)=(.*)$"
    if flag then
      if flag.field == "preview" then
        value = value_of("--preview", value, { "integer", min = 1 })
      elseif specs[flag.field] then
        value = value_of(flag.field, value, specs[flag.field])
      end
      values[flag.field] = value
    elseif args[i] == "--help" or args[i] == "-h" then
      help = true
    elseif not name then
      unknown(args[i], specs)
    elseif not specs[name] then
      refuse_gone(name)
      exit.fail(exit.USAGE, "unknown key '%s'%s", name, check.suggestion(name, specs))
    else
      values[name] = value_of(name, text, specs[name])
    end
    i = after or i + 1
  end
  if help then
    require("cft.cli.help").recipe(args[0], specs, names)
    exit.leave()
  end

  local known = { preview = true }
  for name in pairs(specs) do known[name] = true end
  return setmetatable(values, {
    __index = function(_, name)
      if known[name] then return nil end
      blame("config: no key '%s'%s", tostring(name), check.suggestion(tostring(name), specs))
    end,
    __newindex = function(t, name, value)
      if not known[name] then
        blame("config: no key '%s'%s", tostring(name), check.suggestion(tostring(name), specs))
      end
      rawset(t, name, value)
    end,
  })
end

--- Has the script that runs asked for its settings?
M.asked = false

return setmetatable(M, {
  --- `cft.config(defaults)`: the settings of the script that runs.
  __call = function(_, defaults)
    if type(defaults) ~= "table" then
      blame("config: defaults must be a table, got %s", type(defaults))
    end
    M.asked = true
    return M.read(defaults, arg)
  end,
})
