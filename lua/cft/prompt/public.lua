--- Which functions are public: those of the modules that `cft` names, wherever they are written, and the methods of what
-- these make. One with a comment
-- ("--") in place of a docstring ("---") is for other modules of cft, not for users.
-- @module cft.prompt.public

local examples = require "cft.prompt.examples"
local reference = require "cft.prompt.reference"

local M = {}

--- The modules of `cft`, by the name they have there.
-- @treturn {string=string,...} "data" → "cft.data.open"
function M.modules() return getmetatable(require "cft").modules end

-- ---- what a source defines ---------------------------------------------------------------------

-- "---" above a docstring, "--" above a comment, nil where there is neither.
local function dashes_above(lines, at)
  while at > 1 and lines[at - 1]:find "^%-%-" and not lines[at]:find "^%-%-%-" do at = at - 1 end
  return lines[at]:match "^%-%-%-?"
end

-- Classes that are for others: those of which a method has a docstring. The others are a module's own.
local function public_classes(lines)
  local set = {}
  for i, line in ipairs(lines) do
    local class = line:match "^function (%u[%w_]*)[.:]"
    if class and class ~= "M" and dashes_above(lines, i) == "---" then set[class] = true end
  end
  return set
end

-- Names that a source defines: `name`, `holder` (M, or a class), `method` for one that is called with a colon.
local function named(lines)
  local list, seen, public = {}, {}, public_classes(lines)
  for i, line in ipairs(lines) do
    local holder, mark, name = line:match "^function ([%w_]+)([.:])([%w_]+)%("
    if not holder then holder, name = line:match "^(M)%.(%l[%w_]*)%s*=[^=]" end
    local own = dashes_above(lines, i) == "--"
    if (holder == "M" or public[holder]) and not own and not name:find "^_" and not seen[holder .. name] then
      seen[holder .. name] = true
      list[#list + 1] = { name = name, method = mark == ":", holder = holder }
    end
  end
  return list
end

-- ---- what a module has -------------------------------------------------------------------------

-- The names in a table, in order, of values of a type.
local function sorted(t, kind)
  local names = {}
  for name, value in pairs(t) do
    if type(name) == "string" and not name:find "^_" and (not kind or type(value) == kind) then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

-- The docstring of a function that is written elsewhere than in the source of what has it.
local function doc_of(f, name)
  local module, line = reference.origin(f)
  if not module then return nil end
  local its, holder = reference.name_at(module, line)
  local doc = its and reference.of(module, its, holder) or reference.made_at(module, line, name)
  if doc then doc.source, doc.name, doc.class = module, name, nil end
  return doc, module
end

-- A module, with what `cft` puts into it where it is one of its own.
local function load(module)
  for name, its in pairs(M.modules()) do
    if its == module then return require "cft"[name] end
  end
  return require(module)
end

local function all_of(module)
  local lines, is = reference.source(module), load(module)
  local list, from, seen = {}, { module }, {}
  local function add(doc, class)
    local key = (class or "") .. ":" .. doc.name
    if seen[key] then return end
    if class and not doc.class then doc.arguments = doc.arguments:gsub("^%([%w_]+,? ?", "(") end  -- itself
    seen[key], doc.class, list[#list + 1] = true, class, doc
    doc.example = examples.of(doc, reference.source(doc.source)) or examples.of(doc, lines)
  end
  -- Of a source: the functions of its table, where it is the module's own, and the methods of its classes.
  local function add_source(name, own)
    for _, n in ipairs(reference.source(name) and named(reference.source(name)) or {}) do
      local value = own and n.holder == "M" and type(is) == "table" and rawget(is, n.name)
      if type(value) == "function" or n.holder ~= "M" then
        local doc = reference.of(name, n.name, n.holder)
        doc.source = name
        add(doc, n.holder ~= "M" and n.holder or nil)
      end
    end
  end
  add_source(module, true)
  -- Functions and methods that were put into it from elsewhere, and the classes that are written there.
  local own_names = {}
  for _, other in pairs(M.modules()) do own_names[other] = true end
  local function add_elsewhere(t, class)
    for _, name in ipairs(sorted(t, "function")) do
      local doc, its = doc_of(t[name], name)
      if class and own_names[its] then doc = nil end
      if doc and (doc.said or not class and not doc.for_others) then add(doc, class) end
      if its and not own_names[its] and not from[its] then
        from[its] = true
        add_source(its)
      end
    end
  end
  -- Modules that it loads when they are named, as cft.nn does.
  local inner = type(is) == "table" and (getmetatable(is) or {}).modules or {}
  for _, name in ipairs(sorted(inner)) do
    local value = require(inner[name])
    if type(value) == "function" then add((doc_of(value, name))) end
    for _, f in ipairs(type(value) == "table" and M.functions(inner[name]) or {}) do
      if not f.class then f.name = name .. "." .. f.name end
      add(f, f.class)
    end
  end
  if type(is) == "table" then
    if module ~= "cft.engine.ops" then add_elsewhere(is) end  -- ops are explained by their formulas
    for _, name in ipairs(sorted(is, "table")) do
      if name:find "^%u%l" then add_elsewhere(is[name], name) end
    end
  end
  return list
end

local kept = {}

--- Public functions of a module: those of its table, and the methods of what it makes.
-- @string module such as "cft.data.open"
-- @treturn {table,...} docstrings as `cft.prompt.reference` has them, in the order of the source: `class` for methods,
-- `source` the module that it is written in, `example` the lines of one that calls it
function M.functions(module)
  kept[module] = kept[module] or all_of(module)
  return kept[module]
end

return M
