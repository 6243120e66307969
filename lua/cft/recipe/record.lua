--- The record of a run, OUT/run.json: what it is, from which settings, on what, and how it ended. docs/run-folder.md has
-- its fields.

local config = require "cft.config"
local host = require "cft.host"
local json = require "cft.base.json"
local save = require "cft.io.save"

local M = {}

local FORMAT = 1

local ORDER = { "format", "id", "status", "started", "ended", "recipe", "path", "name", "command", "settings", "value",
                "from", "versions", "host", "device", "seed", "data" }

--- A moment as ISO 8601, in UTC.
-- @int[opt] seconds since 1970; now if absent
function M.moment(seconds) return os.date("!%Y-%m-%dT%H:%M:%SZ", seconds or math.floor(host.time())) end

local function contents(path)
  local file = path and io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  return text
end

local function command()
  local given, list = rawget(_G, "arg") or {}, json.array { "cftrun" }
  list[#list + 1] = given[0]
  for _, argument in ipairs(given) do list[#list + 1] = argument end
  return list
end

-- What a source is made of: its files, or itself.
local function data_of(source)
  local list = json.array()
  for _, part in ipairs(source.parts or { { source = source } }) do
    local files = part.source:files()
    for _, file in ipairs(files or {}) do list[#list + 1] = file end
    if not files then
      list[#list + 1] = { name = part.source.name, records = part.source:size(), hash = part.source:identity() }
    end
  end
  return list
end

-- What a template writes, around places for what a record says; the text of a function that is one.
local function template_text(chat, tok)
  local made, info = chat.make, chat.make and debug.getinfo(chat.make, "S")
  if made then return ("a function (%s:%d)"):format(info.short_src, info.linedefined) end
  local ok, segments = pcall(chat.segments, chat, { messages = {
    { role = "user", content = "{question}" }, { role = "assistant", content = "{answer}" } } }, tok)
  if not ok or not segments then return json.null end
  local parts = {}
  for i, s in ipairs(segments) do parts[i] = s.own and (tok[s.own] and tok:token(tok[s.own]) or "") or s.text end
  return table.concat(parts)
end

local function first_record(run)
  local cfg, model = run.cfg, run.loaded
  return {
    format = FORMAT, id = run.id, recipe = { path = run.script or json.null, name = run.name,
                                             text = contents(run.script) or json.null },
    command = command(), settings = config.record(cfg),
    versions = { cft = host.version, commit = host.commit, luajit = jit.version, system = jit.os .. " " .. jit.arch },
    host = ((contents "/proc/sys/kernel/hostname" or "unknown"):gsub("%s+$", "")), device = run.device_text,
    ranks = run.ranks and run.ranks.places and json.array(run.ranks.places) or nil,
    seed = config.peek(cfg, "seed"), data = data_of(run.source),
    heldout = run.heldout_source and data_of(run.heldout_source) or nil,
    template = { name = run.chat.name, text = template_text(run.chat, run.tokenizer) },
    model = model and { path = run.path or json.null, name = run.own and run.own.name or nil, class = model.config.arch,
                        parameters = model:count(), dtype = model.dtype } or json.null,  -- a loop's own may be unknown
    steps = run.last_step, started = M.moment(), resumed = json.array(), changed_by_hand = false,
  }
end

local function write(run)
  if run.writes then
    save.write(run.writes .. "/run.json", json.encode(json.sayable(run.record), { indent = 2, order = ORDER }) .. "\n")
  end
end

--- The run begins, or goes on from a step: its record is written.
-- @tab run `cfg`, `id`, `out`, ...
-- @tab[opt] earlier the record of the run that goes on
-- @int[opt] step it goes on from
function M.begin(run, earlier, step)
  local record = first_record(run)
  if step then
    record.started = type(earlier) == "table" and type(earlier.started) == "string" and earlier.started or record.started
    for _, one in ipairs(type(earlier) == "table" and type(earlier.resumed) == "table" and earlier.resumed or {}) do
      table.insert(record.resumed, one)
    end
    record.changed_by_hand = run.was_changed_by_hand == true
    table.insert(record.resumed, { at_step = step, time = M.moment() })
  end
  record.ended, record.status = json.null, "running"
  run.record = record
  write(run)
end

--- Somebody has changed the run, or may have: a line of `cftrun attach` ran in it.
-- @tab run
function M.by_hand(run)
  if not run.record or run.record.changed_by_hand then return end
  run.record.changed_by_hand = true
  write(run)
end

--- Was the run that made a checkpoint changed by hand?
-- @string path of the checkpoint
-- @treturn ?string the folder of that run, where its record says so
function M.changed_by_hand(path)
  local folder = path:match "^(.*)/[^/]+/*$" or "."
  local record = json.read(folder .. "/run.json")
  return type(record) == "table" and record.changed_by_hand == true and folder or nil
end

--- The run is over.
-- @tab run
-- @string status "finished", "stopped", "interrupted" or "failed"
function M.finish(run, status)
  if not run.record then return end
  run.record.ended, run.record.status = M.moment(), status
  write(run)
end

return M
