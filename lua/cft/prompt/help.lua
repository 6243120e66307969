--- `help(what)` at the prompt: a module, a function, a method, an op, a setting.
-- @module cft.prompt.help

local check = require "cft.base.check"
local examples = require "cft.prompt.examples"
local formulas = require "cft.engine.rules.formulas"
local public = require "cft.prompt.public"
local reference = require "cft.prompt.reference"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

-- ---- names -----------------------------------------------------------------------------------

local function module_of(value)  -- → "data", "cft.data.open"
  for name, module in pairs(public.modules()) do
    if package.loaded[module] == value then return name, module end
  end
end

-- All public functions, or one module's: `fn(name, f)`, the module's name in `cft` and the docstring, in order of names.
local function each_function(fn, only)
  local names = { only }
  for name in pairs(only and {} or public.modules()) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    for _, f in ipairs(public.functions(public.modules()[name])) do fn(name, f) end
  end
end

--- What a public function is called.
-- @string name of its module in `cft`
-- @tab f its docstring
-- @treturn string such as "cft.data.open", "Source:size"
function M.called(name, f) return f.class and f.class .. ":" .. f.name or "cft." .. name .. "." .. f.name end

-- ---- pages -----------------------------------------------------------------------------------

local function wrapped(text, indent, width)
  local lines, line = {}, ""
  for word in text:gmatch "%S+" do
    if #line > 0 and #line + #word + 1 > width - #indent then
      lines[#lines + 1], line = indent .. line, ""
    end
    line = line == "" and word or line .. " " .. word
  end
  if line ~= "" then lines[#lines + 1] = indent .. line end
  return lines
end

local function put(page, lines) for _, line in ipairs(lines) do page[#page + 1] = line end end

-- Entries of a docstring as rows: a name, and what it is.
local function put_rows(page, entries, width)
  for _, e in ipairs(entries) do
    local kind = e.type and (e.default and e.type .. ", optional" or e.type) or e.default and "optional"
    local about = table.concat(e.text, " ")
    if e.default and e.default ~= "" then about = about .. (about ~= "" and "; " or "") .. "otherwise " .. e.default end
    local head = "  " .. (e.name or "->") .. (kind and " (" .. kind .. ")" or "")
    local rows = wrapped(about, "      ", width)
    if #rows == 1 and #head + #rows[1] < width - 2 then
      page[#page + 1] = head .. "  " .. rows[1]:match "^%s*(.*)$"
    else
      page[#page + 1] = head
      put(page, rows)
    end
  end
end

local function width() return math.min(term.width(), 100) end

-- An example behind what makes the names that it uses.
local function put_example(page, example)
  if #example == 0 then return end
  page[#page + 1] = ""
  for _, line in ipairs(examples.prelude(example)) do page[#page + 1] = "    " .. term.paint("dim", line) end
  for _, line in ipairs(example) do page[#page + 1] = "    " .. line end
end

local function page_of(head, doc)
  local page = { term.paint("bold", head), "" }
  put(page, wrapped(table.concat(doc.text, " "), "  ", width()))
  if #doc.text > 0 then page[#page + 1] = "" end
  put_rows(page, doc.params, width())
  put_rows(page, doc.returns, width())
  for _, raised in ipairs(doc.raises) do put(page, wrapped("error: " .. table.concat(raised.text, " "), "  ", width())) end
  put_example(page, doc.example or doc.usage)
  if not doc.said and #doc.text == 0 then page[#page + 1] = "  No docstring." end
  page[#page + 1] = ""
  page[#page + 1] = term.paint("dim", ("%s:%d"):format(doc.path, doc.line))
  return (table.concat(page, "\n"):gsub("\n\n+", "\n\n"))
end

local function function_page(name, f) return page_of(M.called(name, f) .. f.arguments, f) end

local function module_page(name, module)
  local doc = reference.of_module(module)
  if not doc then return nil end
  local page = { page_of("cft." .. name, doc), "" }
  local rows = {}
  for _, f in ipairs(public.functions(module)) do
    rows[#rows + 1] = { (f.class and f.class .. ":" or "") .. f.name .. f.arguments, reference.summary(f) }
  end
  if name == "ops" then
    local ops = {}
    for op, is in pairs(formulas) do ops[#ops + 1] = { op .. is.arguments, is.formula } end
    table.sort(ops, function(a, b) return a[1] < b[1] end)
    for i = #ops, 1, -1 do table.insert(rows, 1, ops[i]) end
  end
  for _, row in ipairs(rows) do
    page[#page + 1] = "  " .. term.paint("bold", row[1])
    put(page, wrapped(row[2], "      ", width()))
  end
  return table.concat(page, "\n")
end

local function op_page(name)
  local op = formulas[name]
  local page = { term.paint("bold", "cft.ops." .. name .. op.arguments), "", "  " .. op.formula, "  " .. op.shapes, "" }
  local method = require "cft.engine.rules"[name]
  if method and method.method then table.insert(page, 5, "  also a method: x:" .. name) end
  if op.example then
    page[#page] = nil
    put_example(page, op.example)
    page[#page + 1] = ""
  end
  page[#page + 1] = term.paint("dim", "docs/ops/README.md; its gradient: lua/cft/engine/rules")
  return table.concat(page, "\n")
end

local function setting_page(name)
  local key = require "cft.config.keys".by_name[name]
  if not key then return nil end
  local page = { term.paint("bold", name .. "=") .. "  a setting of a recipe", "" }
  put(page, wrapped(table.concat({ key.help or "", key.more or "" }, ". "), "  ", width()))
  page[#page + 1] = ""
  page[#page + 1] = term.paint("dim", "docs/cli.md has all settings")
  return table.concat(page, "\n")
end

-- ---- looking up ------------------------------------------------------------------------------

--- The modules of `cft`, a line each.
-- @treturn string
function M.contents()
  local names = {}
  for name in pairs(public.modules()) do names[#names + 1] = name end
  table.sort(names)
  local lines = { "Modules of cft; help(cft.NAME) or ? NAME says more:" }
  for _, name in ipairs(names) do
    local doc = reference.of_module(public.modules()[name])
    local summary = doc and reference.summary(doc) or ""
    local line = ("  %-14s %s"):format(name, summary)
    lines[#lines + 1] = #line > width() and line:sub(1, width() - 3) .. "..." or line
  end
  return table.concat(lines, "\n")
end

-- Every name that `by_name` knows, for suggestions.
local function all_names()
  local names = {}
  for name in pairs(public.modules()) do names["cft." .. name] = true end
  each_function(function(_, f) names[f.name] = true end)
  for name in pairs(formulas) do names[name] = true end
  for name in pairs(require "cft.config.keys".by_name) do names[name] = true end
  return names
end

-- Pages of all that is called so: cft.data, data, cft.data.files, files, Tensor:sum, x:sum, batch_tokens.
local function by_name(name)
  local pages = {}
  local function add(page) pages[#pages + 1] = page end
  local plain = name:gsub("^cft%.", "")
  if public.modules()[plain] then add(module_page(plain, public.modules()[plain])) end
  local holder, last = plain:match "^([%w_.]*)[.:]([%w_]+)$"
  local wanted = last or plain
  local exact, alike = {}, {}  -- where no class or module is called so, what is before the dot is somebody's variable
  each_function(function(short, f)
    if f.name:match "[%w_]+$" ~= wanted then return end
    local whole = f.class and f.class .. "." .. f.name or short .. "." .. f.name
    local list = (not holder or plain:gsub(":", ".") == whole) and exact or not public.modules()[holder] and alike or {}
    list[#list + 1] = function_page(short, f)
  end, public.modules()[(holder or ""):match "^[%w_]*"] and holder:match "^[%w_]*" or nil)
  for _, page in ipairs(#exact > 0 and exact or alike) do add(page) end
  if formulas[wanted] and (holder == "ops" or not public.modules()[holder]) then add(op_page(wanted)) end
  if not holder then add(setting_page(wanted)) end
  return pages
end

-- The op that a function of `cft.ops` is; its closures have no source of their own.
local function op_of(f)
  for name, op in pairs(require "cft.engine.ops") do
    if op == f and formulas[name] then return name end
  end
end

-- The module that most methods of a class come from.
local function module_of_methods(class)
  local methods, counts, most = class and (class.__methods or class.__index), {}, nil
  for _, method in pairs(type(methods) == "table" and methods or {}) do
    local module, line
    if type(method) == "function" then module, line = reference.origin(method) end
    if module and reference.name_at(module, line) then
      counts[module] = (counts[module] or 0) + 1
      if not most or counts[module] > counts[most] then most = module end
    end
  end
  return most
end

--- What `help` prints.
-- @param[opt] what a module, a function, or a name of either, of a method, an op or a setting; the contents if nil
-- @treturn string
-- @treturn bool whether a name is known
function M.page(what)
  if what == nil or what == require "cft" then return M.contents() end
  if type(what) == "string" then
    local pages = by_name(what)
    if #pages > 0 then return table.concat(pages, "\n\n"), true end
    return ("nothing is called '%s'%s"):format(texts.printable(what), check.suggestion(what, all_names())), false
  end
  local name, module = module_of(what)
  if name then return module_page(name, module) end
  if type(what) == "function" then
    local op = op_of(what)
    if op then return op_page(op) end
    local line, page
    module, line = reference.origin(what)
    local path = module and reference.source(module).path
    each_function(function(short, f)
      if not page and f.path == path and (f.line == line or f.made == line) then page = function_page(short, f) end
    end)
    local its, holder = nil, nil
    if module then its, holder = reference.name_at(module, line) end
    local doc = its and reference.of(module, its, holder)
    if page or doc then return page or page_of(module .. "." .. its .. doc.arguments, doc) end
    local info = debug.getinfo(what, "S")
    if info.what == "C" then return "a function of Lua or of C: see the Lua 5.1 manual, or docs/ffi.md" end
    return ("a function of %s, line %d, without a docstring"):format(info.short_src, info.linedefined)
  end
  module = module_of_methods(getmetatable(what))
  if module then
    for short, its in pairs(public.modules()) do
      if its == module then return module_page(short, its) end
    end
  end
  return ("a %s; help() lists what cft has, help(cft.NAME) a module's functions"):format(type(what))
end

return M
