--- What a run needs of this machine: its model, its data, a device.

local config = require "cft.config"
local data = require "cft.data.open"
local devices = require "cft.ranks.devices"
local exit = require "cft.base.exit"
local host = require "cft.host"
local hub = require "cft.io.hub"
local ranks = require "cft.ranks"
local run_folder = require "cft.recipe.run_folder"
local tensor = require "cft.engine.tensor"

local M = {}

local function missing(hints, list)
  local lines = { "not on this machine:" }
  for _, m in ipairs(list) do
    local hint = hints[m.what]
    lines[#lines + 1] = ("  %s %s: %s%s"):format(m.what, m.name, m.why, hint and "\n    " .. hint or "")
  end
  lines[#lines + 1] = "  set model= and data= to what you have; --demo needs neither"
  exit.fail(exit.MISSING, "%s", table.concat(lines, "\n"))
end

--- The model's path, and a look whether the data are there. Both are looked for before either is an error, so that
-- one run names all there is to get.
-- @tab cfg settings
-- @tab o options of the recipe: `missing`, how to get `model` and `data`; a recipe with a `model` needs no path to one, and
-- one with a function `load` may do without data
-- @treturn ?string path of the model
function M.inputs(cfg, o)
  local absent = {}
  local path, why
  if cfg.model or not o.model then path, why = hub.find(cfg.model or "") end
  if why then absent[#absent + 1] = { what = "model", name = cfg.model or "", why = why } end
  -- A function `load` reads the key itself, or nobody does.
  local given = config.peek(cfg, "data")
  local paths = type(given) == "table" and given or { given }
  if #paths == 0 and not o.load then absent[#absent + 1] = { what = "data", name = "", why = "no data= given" } end
  for _, p in ipairs(paths) do
    local found, problem = data.find(p)
    if not found then absent[#absent + 1] = { what = "data", name = p, why = problem:gsub("^.-: ", "", 1) } end
  end
  if #absent > 0 then missing(o.missing, absent) end
  return path
end

local ours = { ["run.json"] = true, ["log.jsonl"] = true, ["summary.json"] = true }  -- in its folder, which may be the model's

--- What a run writes may not be a file that it reads; an error with exit code 2 else, before anything is written.
-- @tab cfg settings
-- @string[opt] model the model's path
function M.keep_inputs(cfg, model)
  local function get(name) return config.peek(cfg, name) end  -- a look is no use of a setting
  local inspect = get "inspect"
  local reads, own = {}, rawget(_G, "arg")
  local function read(what, path)
    for _, file in ipairs(data.find(path) or {}) do reads[data.real(file)] = what end
  end
  for what, paths in pairs { ["a file of the data"] = get "data" or {}, ["a file of the benchmarks"] = get "decontaminate" or {},
                             ["a held-out file"] = get "heldout" or {}, ["the recipe"] = own and own[0] or {} } do
    for _, path in ipairs(type(paths) == "table" and paths or { paths }) do
      if type(path) == "string" then read(what, path) end
    end
  end
  if model and host.kind(model) == "folder" then
    for _, name in ipairs(host.list(model) or {}) do
      if not ours[name] then reads[data.real(model .. "/" .. name)] = "a file of the model" end
    end
  elseif model then
    reads[data.real(model)] = "the model"
  end
  if get "out" and get "overwrite" then
    local folder = data.real(get "out")
    for path, is in pairs(reads) do
      local name = path:sub(1, #folder + 1) == folder .. "/" and path:sub(#folder + 2):match "^[^/]+"
      if name and run_folder.is_file(name) then
        exit.fail(exit.USAGE, "--overwrite would remove %s/%s, which is %s", get "out", name, is)
      end
    end
  end
  local writes = { quarantine = get "quarantine", ["--html"] = inspect and inspect.html }
  for name in pairs(get "out" and ours or {}) do writes["out's " .. name] = get "out" .. "/" .. name end
  for what, path in pairs(writes) do
    local is = reads[data.real(path)]
    if is then exit.fail(exit.USAGE, "%s: %s is %s, which is read; it would be overwritten", what, path, is) end
  end
end

--- Open the device of these settings, and make it the default one.
-- @tab cfg settings
-- @tab log says which it is, and why where nobody chose it
-- @treturn string its name @treturn string the dtype of weights and activations @treturn string what it is, in words
function M.device(cfg, log)
  local here = ranks.here()
  local wanted, why = devices.choose(here, cfg.device)
  local d = tensor.default_device(wanted)
  devices.join(here, d)
  local name = tensor.device_name(d)
  why = why or wanted == "auto" and name == "cpu" and tensor.why_cpu()
  log:say("device %s: %s%s", name, tensor.device_description(d), why and why ~= "" and (" (" .. why .. ")") or "")
  for _, note in ipairs(tensor.notes()) do log:say("%s", note) end
  -- What is fastest is for a clock to say, and two runs may hear of it differently.
  tensor.set_autotune(d, cfg.autotune and not cfg.deterministic)
  -- On a GPU gradients have no such kernels.
  if d.host_memory ~= 0 then tensor.set_rows_alone(d, cfg.deterministic) end
  local dtype = cfg.dtype ~= "auto" and cfg.dtype or tensor.best_dtype(d)
  if cfg.gradients == "bf16" and dtype ~= "bf16" then
    exit.fail(exit.USAGE, "gradients=bf16 goes with bf16 weights, and this run's are %s; say dtype=bf16", dtype)
  end
  return name, dtype, ("%s: %s"):format(name, tensor.device_description(d))
end

return M
