--- A name for all that a sample depends on besides its record: template, tokenizer and policy.
-- @module cft.samples.identity
-- @usage local cft = require "cft"
-- local chat, tok = cft.template.chatml(), require("cft.demo").tokenizer(1)
-- print(#require("cft.samples.identity").of(chat, tok, { max_tokens = 512 }))  --> 32

local canonical = require "cft.base.canonical"
local hash = require "cft.io.hash"
local host = require "cft.host"
local template = require "cft.text.template"

local M = {}

--- The name.
-- @tparam Template chat
-- @param tok
-- @tab policy numbers, texts and tables of these
-- @bool[opt=false] exact no name where the template has functions: their text does not say what they read
-- @treturn ?string 32 hexadecimal digits; nil where there is no name; then
-- @treturn ?string why
function M.of(chat, tok, policy, exact)
  local described, why = canonical.text(chat, { what = "template", object = true, exact = exact })
  if not described and exact then
    return nil, "the template has functions of the recipe, and a function has no name"
  elseif not described then
    return nil, "template: " .. why
  end
  local front, behind = template.around(tok)
  local around = (front[1] or behind[1]) and table.concat(front, " ") .. "|" .. table.concat(behind, " ") or nil
  local own = canonical.text { tok.chat_template or false, (tok.named_templates or {}).tool_use or false }
  return hash.text(table.concat({ described, tok:hash(), (assert(canonical.text(policy))), own, around }, "\n"))
end

--- A name for this program: its file, and Lua files that are taken in place of those inside it.
-- @treturn string
function M.program()
  local parts = { host.version, host.kind "/proc/self/exe" and hash.file "/proc/self/exe" or "" }
  local edited = os.getenv "CFT_LUA_PATH"
  local function add(folder)
    for _, name in ipairs(host.list(folder) or {}) do
      local path = folder .. "/" .. name
      if host.kind(path) == "folder" then add(path) end
      if name:match "%.lua$" then parts[#parts + 1] = path:sub(#edited + 1) .. " " .. hash.file(path) end
    end
  end
  if edited then add(edited .. "/cft") end
  return table.concat(parts, " ")
end

return M
