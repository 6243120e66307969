--- The reference for others to show: one page of HTML with a search, definitions for lua-language-server.
-- @module cft.prompt.export

local examples = require "cft.prompt.examples"
local formulas = require "cft.engine.rules.formulas"
local help = require "cft.prompt.help"
local host = require "cft.host"
local keys = require "cft.config.keys"
local page = require "cft.report.page"
local public = require "cft.prompt.public"
local reference = require "cft.prompt.reference"

local M = {}
local escape = page.escape

local function sorted(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- ---- HTML --------------------------------------------------------------------------------------

local STYLE = [[
body { max-width: 60rem; } input { font: inherit; width: 100%; padding: .4rem; } code, pre { font-size: .92em; }
article { border-top: 1px solid var(--line); padding: .4rem 0; } article h3 { font-family: monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .3rem 0; } dd { margin: 0; }
]]

-- Each word that is typed must stand in an entry; sections without one go.
local SCRIPT = [[
const box = document.getElementById("search"), entries = [...document.querySelectorAll("article")];
const texts = entries.map(e => e.textContent.toLowerCase());
box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\s+/).filter(w => w);
  entries.forEach((e, i) => { e.hidden = !words.every(w => texts[i].includes(w)); });
  for (const s of document.querySelectorAll("section"))
    s.hidden = !s.querySelector("article:not([hidden])");
});
]]

-- `code` between backquotes.
local function prose(lines)
  local text = escape(table.concat(lines, " "))
  return (text:gsub("`([^`]+)`", "<code>%1</code>"))
end

local function terms(entries)
  if #entries == 0 then return "" end
  local out = {}
  for _, e in ipairs(entries) do
    local kind = e.type and (e.default and e.type .. ", optional" or e.type) or e.default and "optional"
    out[#out + 1] = ("<dt>%s%s</dt><dd>%s</dd>"):format(escape(e.name or "returns"),
      kind and " <i>" .. escape(kind) .. "</i>" or "", prose(e.text))
  end
  return "<dl>" .. table.concat(out) .. "</dl>"
end

local function entry(head, doc)
  local example = doc.example or doc.usage
  local usage = #example > 0 and ("<pre tabindex=0><span class=soft>%s</span>%s</pre>"):format(
    escape(table.concat(examples.prelude(example), "\n") .. "\n"):gsub("^\n", ""), escape(table.concat(example, "\n"))) or ""
  local from = doc.path and ("<p class=soft>%s:%d</p>"):format(escape(doc.path), doc.line) or ""
  return ("<article><h3>%s</h3><p>%s</p>%s%s%s%s</article>"):format(escape(head), prose(doc.text), terms(doc.params),
    terms(doc.returns), usage, from)
end

local function section(name, entries)
  return ("<section id='%s'><h2>%s</h2>%s</section>"):format(escape(name), escape(name), table.concat(entries, "\n"))
end

local function module_section(name, module)
  local entries = { entry("cft." .. name, reference.of_module(module)) }
  for _, f in ipairs(public.functions(module)) do
    entries[#entries + 1] = entry(help.called(name, f) .. f.arguments, f)
  end
  for _, op in ipairs(name == "ops" and sorted(formulas) or {}) do
    entries[#entries + 1] = entry("cft.ops." .. op .. formulas[op].arguments,
      { text = { formulas[op].formula .. ";", formulas[op].shapes }, params = {}, returns = {}, usage = formulas[op].example or {} })
  end
  return section("cft." .. name, entries)
end

local function settings_section()
  local entries = {}
  for _, name in ipairs(sorted(keys.by_name)) do
    local key = keys.by_name[name]
    local default = key[2] ~= nil and ("; %s if not given"):format(tostring(key[2])) or ""
    entries[#entries + 1] = entry(name .. "=", { text = { key.help .. default, key.more or "" }, params = {}, returns = {}, usage = {} })
  end
  return section("settings of a recipe", entries)
end

--- One page with all public functions, ops and settings, and a search.
-- @treturn string
function M.html()
  local parts, names = {}, sorted(public.modules())
  for i, name in ipairs(names) do names[i] = ("<a href='#cft.%s'>%s</a>"):format(name, name) end
  for _, name in ipairs(sorted(public.modules())) do parts[#parts + 1] = module_section(name, public.modules()[name]) end
  parts[#parts + 1] = settings_section()
  local title = ("cft %s: reference"):format(host.version)
  local body = ([[<p><label for=search>Search</label> <input id=search type=search></p>
<nav aria-label=Modules>%s</nav>
%s]]):format(table.concat(names, "\n"), table.concat(parts, "\n"))
  return page.document(title, STYLE, body, SCRIPT)
end

-- ---- lua-language-server -----------------------------------------------------------------------

local kinds = { int = "integer", func = "function", bool = "boolean" }
local function type_of(kind)
  kind = kind or "any"
  local optional = kind:match "^%?(.*)$"
  kind = (optional or kind):gsub("^%l+$", function(k) return kinds[k] end)
  if not kind:find "^[%w_.]+$" then kind = "any" end
  return kind .. (optional and "|nil" or "")
end

-- Names that are keys elsewhere in a definition file.
local reserved = { ["end"] = true, ["function"] = true, ["repeat"] = true }

local function definition(holder, mark, f)
  local lines = { "--- " .. table.concat(f.text, " ") }
  local known, arguments = {}, {}
  for _, p in ipairs(f.params) do known[p.name or ""] = p end
  for argument in f.arguments:gmatch "[%w_.]+" do
    local p = known[argument] or {}
    if argument ~= "..." then
      lines[#lines + 1] = ("---@param %s%s %s %s"):format(argument, p.default and "?" or "", type_of(p.type),
        table.concat(p.text or {}, " "))
    end
    arguments[#arguments + 1] = argument
  end
  for _, r in ipairs(f.returns) do lines[#lines + 1] = ("---@return %s # %s"):format(type_of(r.type), table.concat(r.text, " ")) end
  if reserved[f.name] then return "" end
  lines[#lines + 1] = ("function %s%s%s(%s) end"):format(holder, mark, f.name, table.concat(arguments, ", "))
  return table.concat(lines, "\n")
end

local setting_kinds = { integer = "integer", number = "number", string = "string", boolean = "boolean", table = "table" }

--- Definitions for lua-language-server: `cft.*`, and the settings that `cft.config` takes.
-- @treturn string a file to put into its workspace library
function M.types()
  local out, classes = { "---@meta cft", "", "---@class cft.settings" }, {}
  for _, name in ipairs(sorted(keys.by_name)) do
    local list = {}
    for kind in (keys.by_name[name][1] or "any"):gmatch "[^|]+" do list[#list + 1] = setting_kinds[kind] or "any" end
    out[#out + 1] = ("---@field %s? %s %s"):format(name, table.concat(list, "|"), keys.by_name[name].help)
  end
  out[#out + 1] = "\n---@class cft\nlocal cft = {}\n"
  for _, name in ipairs(sorted(public.modules())) do
    out[#out + 1] = ("--- %s\ncft.%s = {}\n"):format(table.concat(reference.of_module(public.modules()[name]).text, " "), name)
    for _, f in ipairs(public.functions(public.modules()[name])) do
      if f.class and not classes[f.class] then
        classes[f.class] = true
        out[#out + 1] = ("---@class %s\nlocal %s = {}\n"):format(f.class, f.class)
      end
      out[#out + 1] = definition(f.class or "cft." .. name, f.class and ":" or ".", f) .. "\n"
    end
  end
  for _, op in ipairs(sorted(formulas)) do
    out[#out + 1] = ("--- %s; %s\nfunction cft.ops.%s%s end\n"):format(formulas[op].formula, formulas[op].shapes, op, formulas[op].arguments)
  end
  out[#out + 1] = "--- A recipe's settings: its defaults, and what the command line makes of them.\n---@param defaults cft.settings\n"
    .. "---@return cft.settings\nfunction cft.config(defaults) end\n\nreturn cft\n"
  return table.concat(out, "\n")
end

return M
