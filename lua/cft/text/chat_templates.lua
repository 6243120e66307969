--- The chat templates that come with a tokenizer: one, or several by name. They stand in chat_template.jinja and
-- additional_chat_templates/NAME.jinja, or in tokenizer_config.json as a text or a list; where there are files, those of
-- tokenizer_config.json are not taken, and chat_template.json, which is of processors, never, as in transformers. Where
-- places disagree a note says so.

local blame = require "cft.base.blame"
local host = require "cft.host"
local json = require "cft.base.json"

local M = {}

local DEFAULT, FOLDER = "/chat_template.jinja", "/additional_chat_templates"

local function text_of(path)
  local file = host.kind(path) == "file" and io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

-- A name becomes that of a file.
local function checked(name, where)
  if type(name) ~= "string" or name == "" or name:find "[/%z]" or name:find "^%." then
    blame("%s: a chat template's name is wanted, got %s", where, tostring(name))
  end
  return name
end

local function of_files(folder)
  local templates, any = { default = text_of(folder .. DEFAULT) }, false
  for _, file in ipairs(host.list(folder .. FOLDER) or {}) do
    local name = file:match "^(.+)%.jinja$"
    if name then templates[name] = text_of(folder .. FOLDER .. "/" .. file) end
  end
  for _ in pairs(templates) do any = true end
  return any and templates or nil
end

local function of_config(value, where)
  if type(value) == "string" then return { default = value } end
  local templates = {}
  for _, named in ipairs(type(value) == "table" and value or {}) do
    local name = checked(type(named) == "table" and named.name or nil, where)
    if type(named.template) ~= "string" then blame("%s: chat template '%s' is no text", where, name) end
    templates[name] = named.template
  end
  return templates
end

-- What differs between the templates that were taken and those of another place, a line for each name.
local function differences(taken, other, where, other_where, notes)
  local names = {}
  for name in pairs(other) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    if taken[name] ~= other[name] then
      notes[#notes + 1] = ("%s: its chat template '%s' is %s; %s, as in transformers"):format(other_where, name,
        taken[name] and "another than that of " .. where or "not among those of " .. where,
        taken[name] and "the latter is taken" or "it is left out")
    end
  end
end

--- Read them.
-- @string folder of the tokenizer @tab config what its tokenizer_config.json says
-- @treturn ?string the default one @treturn table the others by name
-- @treturn table a line for each that another place has otherwise
function M.read(folder, config)
  local notes, in_config = {}, of_config(config.chat_template, folder .. "/tokenizer_config.json")
  local in_files = of_files(folder)
  local templates = in_files or in_config
  local where = in_files and folder .. "/*.jinja" or folder .. "/tokenizer_config.json"
  if in_files then differences(templates, in_config, where, folder .. "/tokenizer_config.json", notes) end
  local path = folder .. "/chat_template.json"
  local of_processor = host.kind(path) and json.read(path)
  local text = type(of_processor) == "table" and of_processor.chat_template
  if type(text) == "string" then differences(templates, { default = text }, where, path, notes) end
  local default = templates.default
  templates.default = nil
  return default, templates, notes
end

--- Write them, each into a file of its own, as transformers 4.57 and 5 do.
-- @string folder @func put path, text → a file @tparam ?string default @tab[opt] named
function M.write(folder, put, default, named)
  if default then put(folder .. DEFAULT:sub(2), default) end
  for name, text in pairs(named or {}) do put(("%s%s/%s.jinja"):format(folder, FOLDER:sub(2), name), text) end
end

return M
