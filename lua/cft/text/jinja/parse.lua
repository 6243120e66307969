--- Jinja templates as trees: the lexer and the parser of `cft.jinja`.
--
-- As transformers sets Jinja up: a line break behind `%}` goes (trim_blocks), and so do blanks before a `{%`
-- that is first on its line (lstrip_blocks). A node is `{ kind, line = }` and what that kind needs by name.
-- @module cft.text.jinja.parse

local texts = require "cft.base.text"

local M = {}

--- How deep expressions and blocks may lie in each other.
M.depth = 200

-- A mistake in the template: a table, so that nobody takes it for one of ours.
local function fail(line, message, ...)
  error({ line = line, message = select("#", ...) > 0 and message:format(...) or message }, 0)
end
M.fail = fail

-- ---- texts, tags, and the tokens in them -------------------------------------------------------

local OPEN = { ["{{"] = "print", ["{%"] = "tag", ["{#"] = "comment" }
local CLOSE = { print = "}}", tag = "%}" }

local OPERATORS = { "//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", ">", "<", "=", "(", ")",
  "[", "]", "{", "}", ",", ".", ":", "|" }
local CLOSES = { [")"] = "(", ["]"] = "[", ["}"] = "{" }

local ESCAPES = { n = "\n", t = "\t", r = "\r", a = "\a", b = "\b", f = "\f", v = "\v", ["\n"] = "" }

local function utf8(code)
  if code < 0x80 then return string.char(code) end
  local tail, below = "", 0x40  -- the first byte has room for numbers below it
  repeat
    tail, code, below = string.char(0x80 + code % 0x40) .. tail, math.floor(code / 0x40), below / 2
  until code < below
  return string.char(0x100 - 2 * below + code) .. tail
end

-- What stands between quotes, with Python's escapes.
local function unescaped(text)
  local out, at = {}, 1
  while true do
    local back = text:find("\\", at, true)
    if not back then break end
    out[#out + 1] = text:sub(at, back - 1)
    local c = text:sub(back + 1, back + 1)
    local digits = ({ x = 2, u = 4, U = 8 })[c]
    local hex = digits and text:match("^" .. ("%x"):rep(digits), back + 2)
    local octal = text:match("^[0-7][0-7]?[0-7]?", back + 1)
    if hex then
      out[#out + 1], at = utf8(tonumber(hex, 16)), back + 2 + digits
    elseif octal then
      out[#out + 1], at = utf8(tonumber(octal, 8)), back + 1 + #octal
    else
      out[#out + 1] = ESCAPES[c] or (c == "\\" or c == "'" or c == '"') and c or "\\" .. c
      at = back + 2
    end
  end
  return table.concat(out) .. text:sub(at)
end

local Lexer = {}
Lexer.__index = Lexer

function Lexer:lines_to(stop)
  local _, breaks = self.text:sub(self.counted, stop - 1):gsub("\n", "")
  self.line, self.counted = self.line + breaks, math.max(self.counted, stop)
  return self.line
end

function Lexer:add(kind, value) self.tokens[#self.tokens + 1] = { kind = kind, value = value, line = self.line } end

-- A text up to a tag: without the white space that the tag takes from it.
function Lexer:add_text(text, open, sign)
  if sign == "-" then
    text = texts.trim_right(text)
  elseif sign ~= "+" and open and open ~= "{{" then
    local before, blanks = text:match "^(.*\n)([ \t]*)$"
    if not before and self.fresh_line and text:find "^[ \t]*$" then before, blanks = "", text end
    if blanks then text = before end
  end
  if text ~= "" then self:add("text", text) end
end

-- Behind the end of a tag at `at`: `-` takes white space, a block's end one line break.
function Lexer:leave(at, sign, is_block)
  local first = at
  if sign == "-" then
    at = self.text:match("^%s*()", at)
  elseif is_block and sign ~= "+" and self.text:sub(at, at) == "\n" then
    at = at + 1
  end
  self.fresh_line = at > first and self.text:sub(at - 1, at - 1) == "\n"
  return at
end

-- The tokens of an expression from `at` on, up to and with its closing mark.
function Lexer:inside(at, close)
  local text, open = self.text, {}
  while true do
    at = text:match("^%s*()", at)
    self:lines_to(at)
    if at > #text then fail(self.line, "the text ends where '%s' was wanted", close) end
    if #open == 0 then
      local sign = text:match("^([-+]?)" .. close:gsub("%W", "%%%0"), at)
      if sign then
        self:add "end"
        return at + #sign + #close, sign
      end
    end
    local name = text:match("^[%a_][%w_]*", at)
    local number = not name and (text:match("^%d[%d_]*%.%d+[eE][-+]?%d+", at) or text:match("^%d[%d_]*%.%d+", at)
      or text:match("^%d[%d_]*", at))
    local quote = text:match("^['\"]", at)
    if name then
      self:add("name", name)
      at = at + #name
    elseif number then
      self:add("number", tonumber((number:gsub("_", ""))))
      at = at + #number
    elseif quote then
      local stop = at + 1
      while text:sub(stop, stop) ~= quote do
        if stop > #text then fail(self.line, "a text in %s is not closed", quote) end
        stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
      end
      self:add("string", unescaped(text:sub(at + 1, stop - 1)))
      at = stop + 1
    else
      local found
      for _, operator in ipairs(OPERATORS) do
        if text:sub(at, at + #operator - 1) == operator then found = operator break end
      end
      if not found then fail(self.line, "unexpected character '%s'", text:match("^[%z\1-\127\194-\244][\128-\191]*", at)
        or ("\\x%02x"):format(text:byte(at))) end
      if found == "(" or found == "[" or found == "{" then open[#open + 1] = found end
      if CLOSES[found] then
        if open[#open] ~= CLOSES[found] then fail(self.line, "unexpected '%s'", found) end
        open[#open] = nil
      end
      self:add("operator", found)
      at = at + #found
    end
  end
end

-- The text in `{% raw %}`, which holds no tags; nil where it is another tag.
function Lexer:raw(at)
  local sign, first = self.text:match("^%s*raw%s*([-+]?)%%}()", at)
  if not sign then return nil end
  local from, stop, open_sign, close_sign = self.text:find("{%%([-+]?)%s*endraw%s*([-+]?)%%}", first)
  if not from then fail(self.line, "'raw' has no 'endraw'") end
  first = self:leave(first, sign, true)
  self:add_text(self.text:sub(first, from - 1), "{%", open_sign)
  self:lines_to(stop)
  return self:leave(stop + 1, close_sign, true)
end

local function tokens_of(text)
  text = text:gsub("\r\n?", "\n"):gsub("\n$", "")
  local self = setmetatable({ text = text, tokens = {}, line = 1, counted = 1, fresh_line = true }, Lexer)
  local at = 1
  while at <= #text do
    local from = text:find("{[{%%#]", at)
    if not from then
      self:add_text(text:sub(at))
      break
    end
    local open = text:sub(from, from + 1)
    local sign = text:match("^[-+]?", from + 2)
    self:add_text(text:sub(at, from - 1), open, sign)
    self:lines_to(from)
    local first = from + 2 + #sign
    if open == "{#" then
      local stop, close_sign = text:match("()([-+]?)#}", first)
      if not stop then fail(self.line, "a comment is not closed") end
      at = self:leave(stop + #close_sign + 2, close_sign, true)
    else
      local after = open == "{%" and self:raw(first)
      if not after then
        local kind, close_sign = OPEN[open], nil
        self:add(kind)
        after, close_sign = self:inside(first, CLOSE[kind])
        after = self:leave(after, close_sign, kind == "tag")
      end
      at = after
    end
  end
  self:lines_to(#text + 1)
  self:add "eof"
  return self.tokens
end

-- ---- expressions -------------------------------------------------------------------------------

local Parser = {}
Parser.__index = Parser

function Parser:look() return self.tokens[self.at] end

function Parser:next()
  local token = self.tokens[self.at]
  self.at = self.at + 1
  return token
end

-- Is the next token, or one further on, of this kind and value?
function Parser:is(kind, value, further)
  local token = self.tokens[self.at + (further or 0)]
  return token.kind == kind and (value == nil or token.value == value)
end

function Parser:take(kind, value)
  if self:is(kind, value) then return self:next() end
end

local function shown(token)
  if token.kind == "end" then return "the end of the tag" end
  if token.kind == "eof" then return "the end of the template" end
  if token.kind == "tag" or token.kind == "print" or token.kind == "text" then return "the end of the expression" end
  return token.kind == "string" and "a text" or ("'%s'"):format(tostring(token.value))
end

function Parser:want(kind, value)
  local token = self:take(kind, value)
  if not token then
    fail(self:look().line, "%s where %s was wanted", shown(self:look()),
      value and ("'%s'"):format(value) or "a " .. kind)
  end
  return token
end

-- So that a template of a million brackets is a message and no end of the stack.
function Parser:deeper()
  self.nesting = self.nesting + 1
  if self.nesting > M.depth then fail(self:look().line, "nested deeper than %d", M.depth) end
end

function Parser:node(kind, fields)
  fields.kind, fields.line = kind, fields.line or self:look().line
  return fields
end

local CONSTANTS = { ["true"] = true, ["True"] = true, ["false"] = false, ["False"] = false }
local NONE = { none = true, None = true }

function Parser:list_until(close, item)
  local list = {}
  while not self:take("operator", close) do
    if #list > 0 then
      self:want("operator", ",")
      if self:take("operator", close) then break end
    end
    list[#list + 1] = item(self)
  end
  return list
end

local function dict_pair(self)
  local key = self:expression()
  self:want("operator", ":")
  return { key, self:expression() }
end

function Parser:primary()
  local token = self:next()
  local kind, value, line = token.kind, token.value, token.line
  if kind == "name" then
    if CONSTANTS[value] ~= nil then return self:node("constant", { value = CONSTANTS[value], line = line }) end
    if NONE[value] then return self:node("none", { line = line }) end
    return self:node("name", { name = value, line = line })
  elseif kind == "string" then
    while self:is "string" do value = value .. self:next().value end
    return self:node("constant", { value = value, line = line })
  elseif kind == "number" then
    return self:node("constant", { value = value, line = line })
  elseif kind == "operator" and value == "(" then
    if self:take("operator", ")") then return self:node("list", { items = {}, tuple = true, line = line }) end
    local first = self:expression()
    if self:take("operator", ")") then return first end
    self:want("operator", ",")
    local items = self:list_until(")", Parser.expression)
    table.insert(items, 1, first)
    return self:node("list", { items = items, tuple = true, line = line })
  elseif kind == "operator" and value == "[" then
    return self:node("list", { items = self:list_until("]", Parser.expression), line = line })
  elseif kind == "operator" and value == "{" then
    return self:node("dict", { pairs = self:list_until("}", dict_pair), line = line })
  end
  self.at = self.at - 1
  fail(line, "%s where a value was wanted", shown(token))
end

-- Arguments behind an open parenthesis.
function Parser:arguments()
  local args, named = {}, {}
  self:list_until(")", function()
    if self:is("operator", "**") then fail(self:look().line, "'**' before an argument is not supported") end
    if self:is("operator", "*") then  -- a list of arguments
      local line = self:next().line
      args[#args + 1] = self:node("spread", { object = self:expression(), line = line })
      return true
    end
    if self:is "name" and self:is("operator", "=", 1) then
      local name = self:next().value
      self:next()
      named[#named + 1] = { name, self:expression() }
    else
      if #named > 0 then fail(self:look().line, "an argument without a name behind one with a name") end
      args[#args + 1] = self:expression()
    end
    return true
  end)
  return args, named
end

function Parser:subscript(object, line)
  local first, last, step
  if not self:is("operator", ":") then first = self:expression() end
  local slice = self:take("operator", ":")
  if slice then
    if not self:is("operator", ":") and not self:is("operator", "]") then last = self:expression() end
    if self:take("operator", ":") and not self:is("operator", "]") then step = self:expression() end
  end
  self:want("operator", "]")
  if slice then return self:node("slice", { object = object, first = first, last = last, step = step, line = line }) end
  return self:node("item", { object = object, key = first, line = line })
end

function Parser:postfix(object)
  while true do
    local line = self:look().line
    if self:take("operator", ".") then
      if self:is "number" then
        object = self:node("item", { object = object, line = line,
          key = self:node("constant", { value = self:next().value }) })
      else
        object = self:node("attribute", { object = object, name = self:want("name").value, line = line })
      end
    elseif self:take("operator", "[") then
      object = self:subscript(object, line)
    elseif self:take("operator", "(") then
      local args, named = self:arguments()
      object = self:node("call", { callee = object, args = args, named = named, line = line })
    else
      return object
    end
  end
end

local NO_ARGUMENT = { ["else"] = true, ["or"] = true, ["and"] = true, ["is"] = true, ["in"] = true, ["if"] = true,
  ["not"] = true }

function Parser:test(object)
  local line, negated = self:look().line, self:take("name", "not") ~= nil
  local name, args, named = self:want("name").value, {}, {}
  if self:take("operator", "(") then
    args, named = self:arguments()
  elseif self:is "string" or self:is "number" or self:is("operator", "[") or self:is("operator", "{")
         or self:is "name" and not NO_ARGUMENT[self:look().value] then
    args = { self:postfix(self:primary()) }
  end
  local node = self:node("test", { object = object, name = name, args = args, named = named, line = line })
  return negated and self:node("not", { object = node, line = line }) or node
end

function Parser:filter(object)
  local line = self:look().line
  local name, args, named = self:want("name").value, {}, {}
  if self:take("operator", "(") then args, named = self:arguments() end
  return self:node("filter", { object = object, name = name, args = args, named = named, line = line })
end

function Parser:unary(without_filters)
  self:deeper()
  local line, object = self:look().line, nil
  if self:take("operator", "-") then
    object = self:node("negative", { object = self:unary(true), line = line })
  elseif self:take("operator", "+") then
    object = self:unary(true)
  else
    object = self:postfix(self:primary())
  end
  while not without_filters do
    if self:take("operator", "|") then object = self:filter(object)
    elseif self:take("name", "is") then object = self:test(object)
    elseif self:is("operator", "(") then object = self:postfix(object)
    else break end
  end
  self.nesting = self.nesting - 1
  return object
end

-- Operators of one rank, from the left.
local function left_to_right(operators, below)
  return function(self)
    local left = self[below](self)
    while self:is "operator" and operators[self:look().value] do
      local token = self:next()
      left = self:node("binary", { operator = token.value, left = left, right = self[below](self), line = token.line })
    end
    return left
  end
end

Parser.power = left_to_right({ ["**"] = true }, "unary")
Parser.product = left_to_right({ ["*"] = true, ["/"] = true, ["//"] = true, ["%"] = true }, "power")
Parser.joined = left_to_right({ ["~"] = true }, "product")
Parser.sum = left_to_right({ ["+"] = true, ["-"] = true }, "joined")

local COMPARISONS = { ["=="] = true, ["!="] = true, [">"] = true, [">="] = true, ["<"] = true, ["<="] = true }

-- `a < b < c` is `a < b and b < c`.
function Parser:comparison()
  local left, all = self:sum(), nil
  while true do
    local line, operator = self:look().line, nil
    if self:is "operator" and COMPARISONS[self:look().value] then
      operator = self:next().value
    elseif self:take("name", "in") then
      operator = "in"
    elseif self:is("name", "not") and self:is("name", "in", 1) then
      self.at, operator = self.at + 2, "not in"
    else
      return all or left
    end
    local right = self:sum()
    local one = self:node("compare", { operator = operator, left = left, right = right, line = line })
    all = all and self:node("and", { left = all, right = one, line = line }) or one
    left = right
  end
end

function Parser:negation()
  local line = self:look().line
  if not self:take("name", "not") then return self:comparison() end
  self:deeper()
  local node = self:node("not", { object = self:negation(), line = line })
  self.nesting = self.nesting - 1
  return node
end

local function words(word, below)
  return function(self)
    local left = self[below](self)
    while self:is("name", word) do
      local line = self:next().line
      left = self:node(word, { left = left, right = self[below](self), line = line })
    end
    return left
  end
end

Parser.conjunction = words("and", "negation")
Parser.disjunction = words("or", "conjunction")

function Parser:expression()
  self:deeper()
  local value = self:disjunction()
  while self:is("name", "if") do
    local line = self:next().line
    local condition = self:disjunction()
    local other = self:take("name", "else") and self:expression() or nil
    value = self:node("choice", { condition = condition, value = value, other = other, line = line })
  end
  self.nesting = self.nesting - 1
  return value
end

-- One expression, or several with commas between them: a tuple.
function Parser:expressions(item)
  item = item or Parser.expression
  local line, first = self:look().line, item(self)
  if not self:is("operator", ",") then return first end
  local items = { first }
  while self:take("operator", ",") and not self:is "end" do items[#items + 1] = item(self) end
  return self:node("list", { items = items, tuple = true, line = line })
end

-- ---- statements --------------------------------------------------------------------------------

function Parser:targets()
  local parenthesis = self:take("operator", "(")
  local names = { self:want("name").value }
  while self:take("operator", ",") do names[#names + 1] = self:want("name").value end
  if parenthesis then self:want("operator", ")") end
  return names
end

-- What stands up to `{% endX %}` behind a tag that ends here; the end of that one is for `body`, as every tag's.
function Parser:body_to(stop)
  self:want "end"
  local body = self:body(stop)
  self:want("name", stop)
  return body
end

-- The body of an `else`, if there is one, and the word that ends the whole tag.
function Parser:otherwise(stop)
  if self:take("name", "else") then return self:body_to(stop) end
  self:want("name", stop)
end

-- Filters with bars before them.
function Parser:filters()
  local filters = {}
  while self:take("operator", "|") do filters[#filters + 1] = self:filter() end
  return filters
end

-- How a tag's node is made of what follows its name.
local tags = {}

function tags:print(line)
  return self:node("print", { value = self:expressions(), line = line })
end

tags["if"] = function(self, line)
  local branches = {}
  repeat
    local condition = self:expressions()
    self:want "end"
    branches[#branches + 1] = { condition, self:body("elif", "else", "endif") }
  until not self:take("name", "elif")
  return self:node("if", { branches = branches, other = self:otherwise "endif", line = line })
end

tags["for"] = function(self, line)
  local names = self:targets()
  self:want("name", "in")
  local over = self:expressions(Parser.disjunction)
  local condition = self:take("name", "if") and self:expression() or nil
  if self:is("name", "recursive") then fail(line, "'recursive' loops are not supported") end
  self:want "end"
  self.loops = self.loops + 1
  local body = self:body("else", "endfor")
  self.loops = self.loops - 1
  return self:node("for", { names = names, over = over, condition = condition, body = body,
    other = self:otherwise "endfor", line = line })
end

for _, word in ipairs { "break", "continue" } do
  tags[word] = function(self, line)
    if self.loops == 0 then fail(line, "'%s' outside of a loop", word) end
    return self:node(word, { line = line })
  end
end

function tags:set(line)
  local names, field = self:targets(), nil
  if #names == 1 and self:take("operator", ".") then field = self:want("name").value end
  if self:take("operator", "=") then
    return self:node("set", { names = names, field = field, value = self:expressions(), line = line })
  end
  local filters = self:filters()
  return self:node("set",
    { names = names, field = field, body = self:body_to "endset", filters = filters, line = line })
end

function Parser:parameters()
  return self:list_until(")", function()
    local name = self:want("name").value
    return { name, self:take("operator", "=") and self:expression() or nil }
  end)
end

function tags:macro(line)
  local name = self:want("name").value
  self:want("operator", "(")
  local parameters, loops = self:parameters(), self.loops
  self.loops = 0
  local body = self:body_to "endmacro"
  self.loops = loops
  self:take("name", name)
  return self:node("macro", { name = name, parameters = parameters, body = body, line = line })
end

function tags:call(line)
  local parameters = self:take("operator", "(") and self:parameters() or {}
  local call = self:unary()
  if call.kind ~= "call" then fail(line, "'call' wants a call of a macro behind it") end
  return self:node("call block", { call = call, parameters = parameters, body = self:body_to "endcall", line = line })
end

function tags:filter(line)
  local first = self:filter()
  local filters = self:filters()
  table.insert(filters, 1, first)
  return self:node("filter block", { filters = filters, body = self:body_to "endfilter", line = line })
end

-- transformers marks with it what the assistant says; it prints what is in it.
function tags:generation(line) return self:node("generation", { body = self:body_to "endgeneration", line = line }) end

--- Statements up to one of these words, which is left as the next token.
function Parser:body(...)
  self:deeper()
  local stops, list = { ... }, {}
  while true do
    local token = self:next()
    if token.kind == "text" then
      list[#list + 1] = self:node("text", { text = token.value, line = token.line })
    elseif token.kind == "print" then
      list[#list + 1] = tags.print(self, token.line)
      self:want "end"
    elseif token.kind == "eof" then
      if #stops > 0 then fail(token.line, "the template ends where '%s' was wanted", stops[#stops]) end
      break
    else
      local word = self:want("name").value
      local ends = false
      for _, stop in ipairs(stops) do ends = ends or stop == word end
      if ends then
        self.at = self.at - 1
        break
      end
      local parse = word ~= "print" and tags[word]
      if not parse then
        fail(token.line, "tag '%s' is not supported%s", word,
          #stops > 0 and (", or '%s' is missing"):format(stops[#stops]) or "")
      end
      list[#list + 1] = parse(self, token.line)
      self:want "end"
    end
  end
  self.nesting = self.nesting - 1
  return list
end

--- The tree of a template.
-- @string text
-- @treturn table a list of nodes; raises `{ line, message }`
function M.parse(text)
  local self = setmetatable({ tokens = tokens_of(text), at = 1, nesting = 0, loops = 0 }, Parser)
  return self:body()
end

return M
