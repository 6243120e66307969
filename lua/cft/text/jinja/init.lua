--- Chat templates in Jinja, as models publish them: the part of the language that they use.
--
-- Statements: if, for (with else, a filter, break and continue), set (with a block), macro, call, filter, raw,
-- generation; expressions; the filters, tests and methods of `cft.text.jinja.library`. No include, import or extends,
-- and nothing that reaches out of the template. White space is taken as transformers has it (trim_blocks,
-- lstrip_blocks).
--
-- A template is foreign code: how many steps it takes, how much text it makes and how deep it goes have limits.
-- @module cft.text.jinja
-- @usage local jinja = require "cft.text.jinja"
-- local template = assert(jinja.parse "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}")
-- print(template:render { messages = { { role = "user", content = " 2 + 3? " } } })   --> [user] 2 + 3?

local library = require "cft.text.jinja.library"
local parse = require "cft.text.jinja.parse"
local traced = require "cft.text.jinja.traced"
local values = require "cft.text.jinja.values"
local kind, truth, text_of, fail, called = library.kind, library.truth, library.text, library.fail, library.called
local bare, concat = traced.bare, traced.concat

local M = {}

--- What one rendering may take: steps of evaluation, bytes of text made and looked through on the way, calls and
-- expressions in each other, and elements of a `range`.
M.limits = { steps = 1e6, bytes = 256 * 1024 * 1024, depth = 300, range = 100000 }

--- A value of a template's that knows where it comes from: texts, numbers and booleans, in lists and tables too.
-- @param value as `render` takes it
-- @tab origin for tables with a method `at`, name or number (from 0) → the origin of what stands there
-- @usage local origin = { at = function(self, name) return name end }
-- local text = cft.jinja.parse("<{{ m.content }}>"):trace { m = cft.jinja.value({ content = "5" }, origin) }
-- for part, from in require("cft.text.jinja.traced").stretches(text) do print(part, from) end   --> <   false 5   content >   false
M.value = library.of

-- ---- scopes ------------------------------------------------------------------------------------

local function inner(scope) return { vars = {}, outer = scope } end

local function lookup(scope, name)
  while scope do
    local value = scope.vars[name]
    if value ~= nil then return value end
    scope = scope.outer
  end
  return library.undefined("'" .. name .. "'")
end

-- ---- expressions: of[kind](run, node, scope) → value --------------------------------------------

local of, Run = {}, {}
Run.__index = Run

function Run:spend(bytes)
  self.bytes = self.bytes + bytes
  if self.bytes > M.limits.bytes then fail("it works on more than %d MiB of text", M.limits.bytes / 2 ^ 20) end
end

-- One call or expression further inside.
function Run:deeper()
  self.depth = self.depth + 1
  if self.depth > M.limits.depth then fail("calls or expressions lie deeper than %d in each other", M.limits.depth) end
end

-- Count a text that was made.
function Run:made(value)
  if traced.is_text(value) then self:spend(traced.size(value)) end
  return value
end

-- Count `n` steps that are taken without looking at nodes.
function Run:steps_taken(n)
  self.steps = self.steps + n
  if self.steps > M.limits.steps then fail("it takes more than %d steps; a loop without end?", M.limits.steps) end
end

function Run:value(node, scope)
  self:steps_taken(1)
  self:deeper()
  self.line = node.line
  local value = of[node.kind](self, node, scope)
  self.depth = self.depth - 1
  self.line = node.line
  return value
end

function of.constant(_, node) return node.value end
function of.none() return library.none end
function of.name(_, node, scope) return lookup(scope, node.name) end

function of:list(node, scope)
  local items = {}
  for i, item in ipairs(node.items) do items[i] = self:value(item, scope) end
  return library.list(items, node.tuple)
end

function of:dict(node, scope)
  local dict = library.dict()
  for _, pair in ipairs(node.pairs) do
    local key = self:value(pair[1], scope)
    if kind(key) ~= "text" and kind(key) ~= "number" then fail("%s cannot be a key", called(key)) end
    library.put(dict, traced.is_text(key) and key or bare(key), self:value(pair[2], scope))
  end
  return dict
end

function of:attribute(node, scope) return library.attribute(self:value(node.object, scope), node.name) end

function of:item(node, scope)
  local object = self:value(node.object, scope)
  return library.item(object, self:value(node.key, scope))
end

function of:slice(node, scope)
  local object = self:value(node.object, scope)
  local function bound(part) if part then return self:value(part, scope) end end
  local cut = library.slice(object, bound(node.first), bound(node.last), bound(node.step))
  self:steps_taken(kind(cut) == "list" and #cut or 1)
  return self:made(cut)
end

function Run:arguments(node, scope)
  local args, named = { n = 0 }, {}
  local function add(value) args.n, args[args.n + 1] = args.n + 1, value end
  for _, arg in ipairs(node.args) do
    if arg.kind == "spread" then
      for _, value in ipairs(library.items(self:value(arg.object, scope))) do add(value) end
    else
      add(self:value(arg, scope))
    end
  end
  for _, pair in ipairs(node.named) do named[pair[1]] = self:value(pair[2], scope) end
  return args, named
end

-- What a call gives; `caller` is what a call block hands it.
function Run:called(node, scope, caller)
  local callee = self:value(node.callee, scope)
  if kind(callee) ~= "function" then fail("%s is called, and is no function", called(callee)) end
  local args, named = self:arguments(node, scope)
  named.caller = caller or named.caller
  return callee.call(args, named)
end

function of:call(node, scope) return self:made(self:called(node, scope)) end

local function pick(list, name, what)
  local found = list[name]
  if not found then fail("no %s '%s'%s", what, name, require("cft.base.check").suggestion(name, list)) end
  return found
end

function Run:filtered(node, value, scope)
  local filter = pick(library.filters, node.name, "filter")
  local args, named = self:arguments(node, scope)
  if kind(value) == "list" then self:steps_taken(#value) end
  return self:made(filter(value, named, unpack(args, 1, args.n)))
end

function of:filter(node, scope) return self:filtered(node, self:value(node.object, scope), scope) end

function of:test(node, scope)
  local test = pick(library.tests, node.name, "test")
  local value = self:value(node.object, scope)
  local args = self:arguments(node, scope)
  return test(value, unpack(args, 1, args.n))
end

of["not"] = function(self, node, scope) return not truth(self:value(node.object, scope)) end

-- As in Python, the value that decides is the result.
for _, word in ipairs { "and", "or" } do
  of[word] = function(self, node, scope)
    local left = self:value(node.left, scope)
    if truth(left) == (word == "or") then return left end
    return self:value(node.right, scope)
  end
end

function of:choice(node, scope)
  if truth(self:value(node.condition, scope)) then return self:value(node.value, scope) end
  if node.other then return self:value(node.other, scope) end
  return library.undefined "the value of an 'if' without 'else'"
end

local compare = {
  ["=="] = library.equal,
  ["!="] = function(a, b) return not library.equal(a, b) end,
  ["<"] = function(a, b) return library.less(a, b) end,
  [">"] = function(a, b) return library.less(b, a) end,
  ["<="] = function(a, b) return not library.less(b, a) end,
  [">="] = function(a, b) return not library.less(a, b) end,
  ["in"] = function(a, b) return library.contains(b, a) end,
  ["not in"] = function(a, b) return not library.contains(b, a) end,
}

function of:compare(node, scope)
  local left = self:value(node.left, scope)
  return compare[node.operator](left, self:value(node.right, scope))
end

function of:negative(node, scope) return -library.want_number(self:value(node.object, scope), "-") end

local arithmetic = {
  ["-"] = function(a, b) return a - b end,
  ["/"] = function(a, b) return a / b end,
  ["//"] = function(a, b) return math.floor(a / b) end,
  ["%"] = function(a, b) return a % b end,
  ["**"] = function(a, b) return a ^ b end,
  ["+"] = function(a, b) return a + b end,
  ["*"] = function(a, b) return a * b end,
}

local function concatenated(a, b)
  local list = {}
  for _, item in ipairs(a) do list[#list + 1] = item end
  for _, item in ipairs(b) do list[#list + 1] = item end
  return library.list(list, a.tuple)
end

-- 'ab' * 3, [0] * 3.
local function repeated(run, value, n)
  n = math.max(0, n)
  local is_text = traced.is_text(value)
  local size = is_text and traced.size(value) or #value * 16
  run:spend(size * n)
  if type(value) == "string" then return value:rep(n) end
  if is_text then
    local parts = {}
    for i = 1, n do parts[i] = value end
    return concat(parts)
  end
  local list, count = {}, #value
  run:steps_taken(count * n)
  for i = 1, count * n do list[i] = value[(i - 1) % count + 1] end
  return library.list(list, value.tuple)
end

local function joined(a, b)
  if type(a) == "string" and type(b) == "string" then return a .. b end
  return concat { a, b }
end

function of:binary(node, scope)
  local operator = node.operator
  local a = self:value(node.left, scope)
  local b = self:value(node.right, scope)
  if operator == "~" then return self:made(joined(text_of(a), text_of(b))) end
  local x, y = kind(a), kind(b)
  if operator == "+" and x == "text" and y == "text" then return self:made(joined(a, b)) end
  if operator == "+" and x == "list" and y == "list" then
    self:steps_taken(#a + #b)
    return concatenated(a, b)
  end
  if operator == "*" and (x == "text" or x == "list") and y == "number" then
    return self:made(repeated(self, a, bare(b)))
  end
  a, b = bare(a), bare(b)
  if x == "bool" then a, x = a and 1 or 0, "number" end
  if y == "bool" then b, y = b and 1 or 0, "number" end
  if x ~= "number" or y ~= "number" then fail("%s %s %s is not possible", called(a), operator, called(b)) end
  if b == 0 and (operator == "/" or operator == "//" or operator == "%") then fail "division by zero" end
  return arithmetic[operator](a, b)
end

-- ---- statements: exec[kind](run, node, scope) → "break", "continue" or nil -----------------------

local exec = {}

function Run:body(list, scope)
  for _, node in ipairs(list) do
    self:steps_taken(1)
    self.line = node.line
    local how = exec[node.kind](self, node, scope)
    if how then return how end
  end
end

function Run:print(text)
  self:made(text)
  self.out[#self.out + 1] = text
end

-- What the body of a node prints, as a text, through its filters.
function Run:captured(node, scope)
  local before = self.out
  self.out = {}
  self:deeper()
  self:body(node.body, inner(scope))
  self.depth = self.depth - 1
  local value = concat(self.out)
  self.out = before
  for _, filter in ipairs(node.filters or {}) do value = self:filtered(filter, value, scope) end
  return value
end

function exec:text(node) self:print(node.text) end
function exec:print(node, scope) self:print(text_of(self:value(node.value, scope))) end

-- What stands in a `{% generation %}`: each origin with a mark that knows the number of the block.
function exec:generation(node, scope)
  if not self.blocks then return self:body(node.body, scope) end
  local first, block, marks = #self.out + 1, self.blocks + 1, {}
  self.blocks = block
  local how = self:body(node.body, scope)
  local function marked(from)
    if from and from.generated then return from end
    marks[from] = marks[from] or { of = from, generated = block }
    return marks[from]
  end
  for i = first, #self.out do self.out[i] = traced.moved(self.out[i], marked) end
  return how
end

exec["break"] = function() return "break" end
exec["continue"] = function() return "continue" end

exec["if"] = function(self, node, scope)
  for _, branch in ipairs(node.branches) do
    if truth(self:value(branch[1], scope)) then return self:body(branch[2], scope) end
  end
  if node.other then return self:body(node.other, scope) end
end

local function assign(scope, names, value)
  if #names == 1 then
    scope.vars[names[1]] = value
    return
  end
  local parts = library.items(value)
  if #parts ~= #names then fail("%d values for %d names", #parts, #names) end
  for i, name in ipairs(names) do scope.vars[name] = parts[i] end
end

local LOOP = { "index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem", "cycle" }

local function loop_of(items, i)
  local n, loop = #items, library.dict()
  local values = { i, i - 1, n - i + 1, n - i, i == 1, i == n, n, items[i - 1], items[i + 1],
    library.callable(function(args) return args[(i - 1) % args.n + 1] end) }
  for k, name in ipairs(LOOP) do
    local value = values[k]
    if value == nil then value = library.undefined("'" .. name .. "' of the loop") end
    library.put(loop, name, value)
  end
  return loop
end

exec["for"] = function(self, node, scope)
  local items = library.items(self:value(node.over, scope))
  if node.condition then
    local kept = {}
    for _, item in ipairs(items) do
      local one = inner(scope)
      assign(one, node.names, item)
      if truth(self:value(node.condition, one)) then kept[#kept + 1] = item end
    end
    items = kept
  end
  if #items == 0 and node.other then return self:body(node.other, inner(scope)) end
  for i = 1, #items do
    self:steps_taken(1)
    local one = inner(scope)
    one.vars.loop = loop_of(items, i)
    assign(one, node.names, items[i])
    if self:body(node.body, one) == "break" then break end
  end
end

function exec:set(node, scope)
  local value
  if node.body then value = self:captured(node, scope) else value = self:value(node.value, scope) end
  if not node.field then return assign(scope, node.names, value) end
  local object = lookup(scope, node.names[1])
  if kind(object) ~= "dict" or not object.namespace then
    fail("'%s.%s' is set, and only a namespace has fields to set", node.names[1], node.field)
  end
  library.put(object, node.field, value)
end

-- A macro as a function. `caller` is what a call block hands it.
local function macro(run, node, scope)
  return library.callable(function(args, named)
    local own, known = inner(scope), { caller = true }
    for i, parameter in ipairs(node.parameters) do
      local name, value = parameter[1], args[i]
      known[name] = true
      if value == nil then value = named[name] end
      if value == nil and parameter[2] then value = run:value(parameter[2], own) end
      if value == nil then value = library.undefined("'" .. name .. "'") end
      own.vars[name] = value
    end
    if args.n > #node.parameters then fail("%s takes %d arguments, got %d", node.name, #node.parameters, args.n) end
    for name in pairs(named) do
      if not known[name] then fail("%s takes no argument '%s'", node.name, name) end
    end
    own.vars.caller = named.caller
    return run:captured(node, own)
  end)
end

function exec:macro(node, scope) scope.vars[node.name] = macro(self, node, scope) end

exec["call block"] = function(self, node, scope)
  local caller = macro(self, { name = "caller", parameters = node.parameters, body = node.body }, scope)
  self:print(text_of(self:called(node.call, scope, caller)))
end

exec["filter block"] = function(self, node, scope)
  self:print(text_of(self:captured(node, scope)))
end

-- ---- what is there without a name of its own ------------------------------------------------------

local function range(run, args)
  local first, last, step = 0, bare(args[1]), 1
  if args.n >= 2 then first, last, step = bare(args[1]), bare(args[2]), bare(args[3] or 1) end
  for _, x in ipairs { first, last or library.none, step } do library.want_number(x, "range") end
  if step == 0 then fail "range: the step is 0" end
  local n = math.max(0, math.ceil((last - first) / step))
  if n > M.limits.range then fail("range: %.0f elements, at most %d are possible", n, M.limits.range) end
  run:steps_taken(n)
  local list = {}
  for i = 1, n do list[i] = first + (i - 1) * step end
  return library.list(list)
end

local function dict_of(args, named)
  local dict = library.dict()
  if kind(args[1]) == "dict" then
    for _, key in ipairs(library.keys(args[1])) do library.put(dict, key, library.get(args[1], key)) end
  end
  local names = {}
  for name in pairs(named) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do library.put(dict, name, named[name]) end
  return dict
end

local function globals(run, now, clock)
  local vars = {
    range = function(args) return range(run, args) end,
    dict = dict_of,
    namespace = function(args, named)
      local space = dict_of(args, named)
      space.namespace = true
      return space
    end,
    raise_exception = function(args)
      error({ line = run.line, message = bare(text_of(args[1] or "")), raised = true }, 0)
    end,
    strftime_now = clock and function(args)
      local format = bare(text_of(args[1] or ""))
      local ok, text = pcall(os.date, "!" .. format, now)
      if not ok then fail("strftime_now: no format '%s'", format) end
      return text
    end or nil,
  }
  for name, call in pairs(vars) do vars[name] = library.callable(call) end
  return vars
end

-- ---- templates ---------------------------------------------------------------------------------

local Template = {}
Template.__index = Template

-- A mistake of the template in one line; any other error is ours and goes on.
local function described(name, err)
  if type(err) ~= "table" or not err.message then error(err, 0) end
  return ("%s, line %s: %s%s"):format(name, tostring(err.line or "?"), err.raised and "it refuses: " or "", err.message)
end

--- Read a template.
-- @string text
-- @string[opt="chat template"] name what messages call it
-- @treturn ?Template nil and what is wrong in which line
-- @usage cft.jinja.parse "{% if x %}"   --> nil "chat template, line 1: the template ends where 'endif' was wanted"
function M.parse(text, name)
  name = name or "chat template"
  local ok, tree = pcall(parse.parse, text)
  if not ok then return nil, described(name, tree) end
  return setmetatable({ name = name, tree = tree }, Template)
end

--- Render it.
-- @tab vars name → value: texts, numbers, booleans, json.null, lists, tables with names
-- @tab[opt] opts `now`: the time for `strftime_now`, in seconds since 1970, the clock's if absent; `clock = false`:
-- there is no `strftime_now`, and templates take the date that they have for that
-- @treturn ?string nil and what went wrong in which line, the template's own `raise_exception` included
-- @usage cft.jinja.parse("{{ x | upper }}"):render { x = "ok" }   --> "OK"
function Template:render(vars, opts)
  local text, why = self:trace(vars, opts, true)
  if not text then return nil, why end
  return bare(text)
end

--- Render it, and keep where each character comes from.
-- @tab vars name → value, as in `render`; what `jinja.value` made knows where it comes from
-- @tab[opt] opts as in `render`
-- @bool[opt=false] unmarked leave out what `{% generation %}` says
-- @return a text of `cft.text.jinja.traced`. Where the template has `{% generation %}`, the origin of a stretch in it is
-- `{ of = origin or false, generated = n }`, of the n-th such block; nil and what went wrong, as in `render`
function Template:trace(vars, opts, unmarked)
  local run = setmetatable({ steps = 0, bytes = 0, depth = 0, out = {}, line = 1, blocks = not unmarked and 0 or nil }, Run)
  opts = opts or {}
  local scope = { vars = globals(run, opts.now or os.time(), opts.clock ~= false) }
  for name, value in pairs(vars) do scope.vars[name] = library.of(value) end
  values.spend = function(bytes) run:spend(bytes) end
  local ok, err = pcall(run.body, run, self.tree, inner(scope))
  values.spend = function() end
  if ok then return concat(run.out) end
  if type(err) == "table" then err.line = err.line or run.line end
  return nil, described(self.name, err)
end

return M
