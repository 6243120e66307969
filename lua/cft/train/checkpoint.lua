--- Checkpoints: a Hugging Face folder that others load as it is, and beside the weights the state that
-- a run goes on from. A folder appears whole, under its name, when all of it is on the disk.

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local exit = require "cft.base.exit"
local folders = require "cft.models.folder"
local host = require "cft.host"
local identity = require "cft.train.identity"
local safetensors = require "cft.io.safetensors"
local saves = require "cft.io.save"
local states = require "cft.io.state"
local tensor = require "cft.engine.tensor"

local M = { export = folders.write }

local VERSION = 3  -- of state.msgpack; 2 had no id of the run, and 1 some settings in place of the run's identity

-- ---- a run -----------------------------------------------------------------------------------

local function source_of_recipe()
  local file = arg and arg[0] and io.open(arg[0], "rb")
  if not file then return "" end
  local text = file:read "*a"
  file:close()
  return text
end

-- Step → value as a list of pairs, in order: the state's maps have texts for keys.
local function pairs_of(values)
  local list = {}
  for step, value in pairs(values) do list[#list + 1] = { step, value } end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

local function state_of(run, trainer)
  local moments = {}  -- by parameter: whatever the optimizer keeps
  local optim = trainer.optim
  for name, kind, t in optim:state() do
    moments[name] = moments[name] or {}
    moments[name][kind] = t
  end
  return {
    version = VERSION, run = run.id, recipe = run.name, source = source_of_recipe(), identity = run.identity,
    changes = run.changes, done = trainer.done, steps = trainer.steps, tokens = trainer.tokens, best = trainer.found_best,
    measured = pairs_of(trainer.measured), learned_tokens = trainer.learned, optimizer = optim.name, updates = optim.count,
    moments = moments, spikes = trainer.spikes and trainer.spikes:state(), live = run.live and run.live:state(),
  }
end

--- Where the checkpoint of a step lies. @string out folder of the run @int step @treturn string
-- @usage cft.checkpoint.folder("runs/mine", 12)   --> "runs/mine/step-000012"
function M.folder(out, step) return ("%s/step-%06d"):format(out, step) end

-- Write the files of a checkpoint into a save, within `optim:lend`; its tensors stay as they are until that is over.
-- @tparam Save save @tab run of `cft.recipe` @tparam Trainer trainer
-- @tab[opt] how `by_time`: the next checkpoint replaces this one
function M.fill(save, run, trainer, how)
  local end_token = run.chat:end_token(run.tokenizer)
  tensor.scope(function()
    local weights = trainer.optim.weights and trainer.optim:weights()
    folders.fill(save, trainer.model, { tokenizer = run.tokenizer, end_token = end_token, weights = weights })
    local state = state_of(run, trainer)
    state.by_time = how and how.by_time or nil
    save:write_state("state.msgpack", state)
  end)
end

--- Save a run as `OUT/step-NNNNNN`, and wait until it is on the disk. @tab run of `cft.recipe` @tparam Trainer trainer
-- @treturn string the folder
-- @usage run:step()
-- cft.checkpoint.save(run, run:trainer()):match "[^/]+$"   --> "step-000001"
-- run:finish()
function M.save(run, trainer)
  local folder = M.folder(run.out, trainer.done)
  local function write() saves.whole(folder, function(save) M.fill(save, run, trainer) end) end
  if trainer.optim.lend then trainer.optim:lend(write) else write() end
  return folder
end

-- Checkpoints of a run's folder, newest first.
local function candidates(out)
  local list = {}
  for _, name in ipairs(host.list(out) or {}) do
    local step = tonumber(name:match "^step%-(%d+)$")
    if step then list[#list + 1] = { step = step, path = out .. "/" .. name } end
  end
  table.sort(list, function(a, b) return a.step > b.step end)
  return list
end

--- The newest checkpoint that is whole, and of this run where it says whose it is.
-- @string out folder of the run @tab log says what was skipped and why
-- @string[opt] id of the run
-- @treturn ?string path
-- @usage run:step()
-- run:finish()
-- cft.checkpoint.newest(folder, run.log, run.id):match "[^/]+$"   --> "step-000001"
function M.newest(out, log, id)
  for _, c in ipairs(candidates(out)) do
    local ok, why = saves.verify(c.path)
    if ok and not saves.size(c.path .. "/state.msgpack") then
      ok, why = false, "it has weights alone, by the run's keep"
    end
    local state = ok and id and states.read(c.path .. "/state.msgpack")
    if state and state.run and state.run ~= id then
      ok, why = false, ("it is of another run, %s"):format(tostring(state.run))
    end
    if ok then return c.path end
    log:say("skipped %s: %s", c.path, why)
  end
end

local FIELDS = {  -- of a state: those of all versions, and what one version has
  { done = { "integer", min = 0 }, steps = { "integer", min = 0 }, tokens = { "number" }, learned_tokens = { "number" },
    updates = { "integer", min = 0 }, optimizer = { "string", optional = true }, moments = { "table" } },
  { settings = { "table" }, data = { "string" } },
  { identity = { "table" }, changes = { "table", optional = true } },
}
FIELDS[4] = { identity = { "table" }, changes = { "table", optional = true }, run = { "string" },
              best = { "table", optional = true }, measured = { "table", optional = true },
              by_time = { "boolean", optional = true }, spikes = { "table", optional = true },
              live = { "table", optional = true } }  -- scores that later ones are compared with

-- What a state must be to be read, whoever wrote it; else an error that names the field.
local function check_state(state, path)
  path = path .. "/state.msgpack"
  if type(state) ~= "table" then blame("resume: %s is a %s, no state of a run", path, type(state)) end
  if state.version ~= VERSION and state.version ~= 1 and state.version ~= 2 then
    local folder = path:match "^(.*)/"
    blame("resume: %s has state of version %s; this program reads 1 to %d: resume with the program that wrote it, or "
          .. "start a new run with model=%s", folder, tostring(state.version), VERSION, folder)
  end
  local function want(table_, name, spec, of)
    local value = table_[name]
    local problem = not (value == nil and spec.optional) and check.problem(value, spec)
    if problem then blame("resume: %s: '%s'%s %s", path, name, of, problem) end
  end
  for _, specs in ipairs { FIELDS[1], FIELDS[1 + state.version] } do
    for name, spec in pairs(specs) do want(state, name, spec, "") end
  end
  for _, change in ipairs(state.changes or {}) do want({ changes = change }, "changes", { "string" }, "") end
  for label, entry in pairs(state.identity or {}) do
    want(state.identity, label, { "table" }, " of the identity")
    for _, name in ipairs(entry.why and { "key", "why" } or { "key", "is", "shown" }) do
      want(entry, name, { "string" }, (" of '%s' of the identity"):format(label))
    end
  end
  for name in pairs(state.moments) do want(state.moments, name, { "table" }, " of the moments") end
  for name, spec in pairs(state.best and { step = { "integer", min = 0 }, value = { "number" }, metric = { "string" } } or {}) do
    want(state.best, name, spec, " of the best")
  end
  for _, pair in ipairs(state.measured or {}) do
    if type(pair) ~= "table" or type(pair[1]) ~= "number" or type(pair[2]) ~= "number" then
      blame("resume: %s: 'measured' is no list of pairs of numbers", path)
    end
  end
end

-- Of which run it is: the one that its folder holds, if that is known.
local function check_run(run, state, path)
  local id = run.earlier and run.earlier.id
  if id and state.run and id ~= state.run then
    exit.fail(exit.USAGE, "resume: %s is of the run %s, and out '%s' holds the run %s; give its own out=, or another one",
      path, state.run, run.out, id)
  end
  run.id = state.run or id
end

-- Those of the differences that the user allows; all others end the run.
local function allow(changes, allowed, path)
  local is_allowed, met, texts, keys = {}, {}, {}, {}
  for _, key in ipairs(allowed or {}) do is_allowed[key] = true end
  for _, change in ipairs(changes) do
    if not is_allowed[change.key] then texts[#texts + 1] = "  " .. change.text end
    if not met[change.key] then keys[#keys + 1] = change.key end
    met[change.key] = true
  end
  for _, key in ipairs(allowed or {}) do
    if not met[key] then exit.fail(exit.USAGE, "--allow-change %s: %s did not change since %s", key, key, path) end
  end
  if #texts == 0 then return end
  blame("resume: this run is not the one that made %s:\n%s\n  give it the same, or go on all the same with "
        .. "--allow-change %s, or start a new run with model=%s", path, table.concat(texts, "\n"),
        table.concat(keys, ","), path)
end

-- The run as it is beside the run as it was. What is allowed to change is logged, and kept in later checkpoints.
local function check_identity(run, state, path)
  local old = state.version == 1
  local was = old and identity.of_version_1(state, run.identity, run.source:hash()) or state.identity
  local changes, unknown = identity.compare(was, run.identity, old)
  allow(changes, run.cfg.allow_change, path)
  if old then run.log:say("resume: %s was saved by an earlier program, state version 1", path) end
  for _, text in ipairs(unknown) do run.log:say("resume: %s", text) end
  run.changes = state.changes or {}
  for _, change in ipairs(changes) do
    run.log:say("resume: changed after step %d: %s", state.done, change.text)
    run.changes[#run.changes + 1] = ("after step %d: %s"):format(state.done, change.text)
  end
end

-- What the optimizer keeps. State that does not say whose it is, is AdamW's.
local function load_optimizer(optim, state, path)
  local was = state.optimizer or "adamw"
  if was ~= optim.name then
    blame("resume: %s was made with optimizer = %s, and this run has %s; give it the same, or start a new run with "
          .. "model=%s", path, was, optim.name, path)
  end
  optim:restore(function(name, kind, t)
    local array = state.moments[name] and state.moments[name][kind]
    if type(array) ~= "table" or not array.copy_to then blame("resume: %s has no %s of '%s'", path, kind, name) end
    array:copy_to(t)
  end)
  optim.count = state.updates
end

-- The checkpoint that `--resume` means, whole and of a version that is read. @tab run @param from as `resume` has it
-- @treturn string its folder @treturn table its state
function M.find(run, from)
  local path = from
  if from == true then
    if not run.cfg.out then
      exit.fail(exit.USAGE, "--resume goes on from the newest checkpoint in out=, which is not set; or name one")
    end
    path = M.newest(run.cfg.out, run.log, run.earlier and run.earlier.id)
    if not path then exit.fail(exit.MISSING, "resume: no whole checkpoint in %s", run.cfg.out) end
  else
    local ok, why = saves.verify(path)
    if not ok then blame("resume: %s", why) end
  end
  local state, why = states.read(path .. "/state.msgpack")
  if not state then blame("resume: %s", why) end
  check_state(state, path)
  return path, state
end

-- The same, and compared: this run goes on from it, or that is an error. @tab run with `identity`; gets its `id`
-- @param from as `find` has it
-- @treturn string its folder @treturn table its state
function M.compare(run, from)
  local path, state = M.find(run, from)
  check_run(run, state, path)
  check_identity(run, state, path)
  return path, state
end

--- Take weights, moments and position from a checkpoint. @tab run with `training`, its trainer; gets its `id` from there
-- @param from a folder, or true for the newest one of the run's folder
-- @treturn string the folder it came from @treturn int the step @treturn ?boolean the next checkpoint replaces it
-- @usage run:step()
-- local from = run:save()
-- local path, step = cft.checkpoint.resume(run, from)
-- step   --> 1
-- run:finish()
function M.resume(run, from)
  local path, state = M.compare(run, from)
  local trainer = run.training
  load_optimizer(trainer.optim, state, path)
  local source = safetensors.folder(path)
  trainer.model:read(source)
  source:release()
  trainer.done, trainer.tokens, trainer.learned = state.done, state.tokens, state.learned_tokens
  trainer.found_best, trainer.saved_at, trainer.saved_in = state.best, state.done, path
  for _, pair in ipairs(state.measured or {}) do trainer.measured[pair[1]] = pair[2] end
  if trainer.spikes and state.spikes then trainer.spikes:restore(state.spikes) end
  if run.live then run.live:restore(state.live, run) end
  saves.intact()
  return path, state.done, state.by_time
end

return M
