--- The chat templates that come with a tokenizer: one, or several by name. They stand in chat_template.jinja and
-- additional_chat_templates/NAME.jinja, or in tokenizer_config.json as a text or a list; where there are files, what
-- tokenizer_config.json says is not looked at, as in transformers.

local blame = require "cft.base.blame"
local host = require "cft.host"

local M = {}

local DEFAULT, FOLDER = "/chat_template.jinja", "/additional_chat_templates"

local function text_of(path)
  local file = io.open(path, "rb")
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

--- Read them.
-- @string folder of the tokenizer @tab config what its tokenizer_config.json says
-- @treturn ?string the default one @treturn table the others by name
function M.read(folder, config)
  local templates = of_files(folder) or of_config(config.chat_template, folder .. "/tokenizer_config.json")
  local default = templates.default
  templates.default = nil
  return default, templates
end

--- Write them, each into a file of its own, as transformers 4.57 and 5 do.
-- @string folder @func put path, text → a file @tparam ?string default @tab[opt] named
function M.write(folder, put, default, named)
  if default then put(folder .. DEFAULT:sub(2), default) end
  for name, text in pairs(named or {}) do put(("%s%s/%s.jinja"):format(folder, FOLDER:sub(2), name), text) end
end

return M
