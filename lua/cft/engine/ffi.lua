--- The boundary to C: declarations, statuses as errors, tensors in and out. docs/ffi.md says who uses it.

local ffi = require "ffi"
local blame = require "cft.base.blame"

local M = {}

ffi.cdef "const char *cft_cdef(void);"
local C = ffi.C
ffi.cdef(ffi.string(C.cft_cdef()))
M.C = C
M.ffi = ffi

--- Raise a failing status as an error at the user's line.
-- @param status what a `cft_*` call returned
function M.check(status)
  if status ~= C.CFT_OK then blame(ffi.string(C.cft_last_error())) end
end

--- Call again, once, after a collection: the collector sees an 8-byte handle where the device sees
-- gigabytes, so it may not have run at all.
local function try(f, ...)
  local status = f(...)
  if status == C.CFT_E_OOM then
    collectgarbage()
    collectgarbage()
    status = f(...)
  end
  if status ~= C.CFT_OK then blame(ffi.string(C.cft_last_error())) end
end
M.try = try

-- C's names of dtypes: "bf16" -> its number, the number -> "bf16", all of them in C's order, and "bf16" -> the bytes
-- of an element.
M.dtypes, M.dtype_names, M.dtype_list, M.dtype_bytes = {}, {}, {}, {}
for number = 0, math.huge do
  local name = ffi.string(C.cft_dtype_name(number))
  if name == "?" then break end
  M.dtypes[name], M.dtype_names[number], M.dtype_list[number + 1] = number, name, name
  M.dtype_bytes[name] = tonumber(C.cft_dtype_bytes(number))
end

-- The C type of one element, for reading a tensor's contents on the host. bf16 and f16 have none
-- that Lua could count with: they are cast to f32 first.
M.element = { f32 = "float", f64 = "double", i32 = "int32_t", i64 = "int64_t", u8 = "uint8_t" }

local single = ffi.new "float[1]"

--- A number rounded to f32.
function M.f32(v)
  single[0] = v
  return single[0]
end

local function kind_of(v)
  if type(v) == "number" or type(v) == "nil" then return tostring(v) end
  return "a " .. type(v)
end

--- The C tensor of a Lua tensor, or an error that says why it has none.
function M.raw(t)
  local c = type(t) == "table" and t.c or nil
  if c == nil then
    if type(t) ~= "table" or not t.was then blame("a tensor is wanted, got %s", kind_of(t)) end
    blame(("this tensor %s was released%s; call :keep() on it where it is made"):format(
      t.was, t.why and " " .. t.why or ""))
  end
  return c
end

--- The dimensions of a C struct that has them (`ndim`, `dims`), as a list of numbers.
function M.dims(c)
  local list = {}
  for i = 1, c.ndim do list[i] = tonumber(c.dims[i - 1]) end
  return list
end

local function handle(v)
  if type(v) == "table" then return M.raw(v) end
  return v
end

local function handles(n, ...)
  if n == 0 then return end
  return handle((...)), handles(n - 1, select(2, ...))
end

--- A C function of `n` arguments as a Lua function that takes tensors for theirs, unchecked.
-- @param f the C function @int n given because trailing nils are NULLs
function M.call(f, n)
  return function(...) try(f, handles(n, ...)) end
end

--- A number, or an error at the user's line that names the argument.
function M.number(op, name, v)
  if type(v) ~= "number" and type(v) ~= "cdata" then
    blame("%s: '%s' must be a number, got %s", op, name, kind_of(v))
  end
end

--- C's enum constants by their names in small letters: `constant.exp` is CFT_EXP.
M.constant = setmetatable({}, { __index = function(t, name)
  t[name] = C["CFT_" .. name:upper()]
  return t[name]
end })

-- A declaration as the list of C's parameters, in C's order: what comes out, then what goes in.
local function declaration(text)
  local name, ins, outs = (text .. " -> "):match "^([%w_]+): (.-) %-> (.*)$"
  local op = name:gsub("^tensor_", ""):gsub("^comm_", ""):gsub("_fwd$", ""):gsub("_op$", "")
  local list = { f = C["cft_" .. name], op = op }
  for out, may in outs:gmatch "([%w_]+)(%??)" do
    list[#list + 1] = { name = out, slot = ffi.new "cft_tensor *[1]", optional = may == "?" }
  end
  for mark, arg, may in ins:gmatch "([#*]?)([%w_]+)(%??)" do
    list[#list + 1] = { name = arg, mark = mark, optional = may == "?" }
  end
  return list
end

-- What C gets for an argument that is no tensor with memory: an error that names it. C would take NULL for a tensor's
-- address, and any number for a dimension.
local function no_tensor(op, name, v)
  if type(v) ~= "table" or v.c == nil and not v.was then
    blame("%s: '%s' must be a tensor, got %s", op, name, kind_of(v))
  end
  return M.raw(v)
end

local function no_value(op, name, v) blame("%s: '%s' is missing, got %s", op, name, kind_of(v)) end

-- Another try after a collection where memory was short, else C's message.
local function failed(status, f, ...)
  if status == C.CFT_E_OOM then try(f, ...) else blame(ffi.string(C.cft_last_error())) end
end

-- The lines that make C's argument `c` of Lua's argument `a`.
local function argument_code(p, a, c)
  local where = ("%q, %q"):format(p.op, p.name)
  if p.mark == "#" then
    return ("if type(%s) ~= 'number' then number(%s, %s) end local %s = %s"):format(a, where, a, c, a)
  elseif p.mark == "*" then
    return ("if type(%s) ~= 'cdata' then no_value(%s, %s) end local %s = %s"):format(a, where, a, c, a)
  end
  local given = p.optional and a .. " ~= nil and " or ""
  return ("local %s = type(%s) == 'table' and %s.c or nil if %s%s == nil then %s = no_tensor(%s, %s) end")
    :format(c, a, a, given, c, c, where, a)
end

-- The lines for what comes out in slot `s`: always a new tensor, or what `a` says of an optional one.
local function result_code(p, a, c, s)
  if not p.optional then return ("%s[0] = nil local %s, %s_made = %s, true"):format(s, c, c, s) end
  return ("%s[0] = nil local %s, %s_made = %s and %s or nil, %s == true if %s and %s ~= true then %s[0] = raw(%s) end")
    :format(s, c, c, a, s, a, a, a, s, a)
end

-- A declaration's function, written out: one that takes its arguments apart as it is called costs several times as much.
local here = debug.getinfo(1, "S").source
local function compiled(list, wrap)
  local names, values, arguments, passed, results, body = {}, {}, {}, {}, {}, {}
  for i, p in ipairs(list) do
    local a, c, s = "a" .. i, "c" .. i, "s" .. i
    p.op, passed[i] = list.op, c
    if p.slot then
      names[#names + 1], values[#values + 1] = s, p.slot
      results[#results + 1] = ("%s_made and %s[0] ~= nil and wrap(%s[0]) or nil"):format(c, s, s)
      body[#body + 1] = result_code(p, a, c, s)
    else
      body[#body + 1] = argument_code(p, a, c)
    end
    if not p.slot or p.optional then arguments[#arguments + 1] = a end
  end
  local text = ("local f, wrap, raw, number, no_tensor, no_value, failed, OK%s = ... return function(%s) %s "
    .. "local status = f(%s) if status ~= OK then failed(status, f, %s) end return %s end"):format(
    #names > 0 and ", " .. table.concat(names, ", ") or "", table.concat(arguments, ", "), table.concat(body, " "),
    table.concat(passed, ", "), table.concat(passed, ", "), table.concat(results, ", "))
  return assert(loadstring(text, here))(list.f, wrap, M.raw, M.number, no_tensor, no_value, failed, C.CFT_OK, unpack(values))
end

--- A C function as a Lua function of tensors, from its declaration:
--
--     "linear_bwd: dy x w -> dx? dw? db?"      cft_linear_bwd
--     "attention_fwd: q k v #heads #kv_heads #scale *layout -> o lse"
--
-- What goes in: a tensor, one that may be nil (`?`), a number (`#`), a C value (`*`). What comes out is
-- returned, each a new tensor. One with `?` is an argument as well, in front of what goes in: true for a
-- new tensor, a tensor that C adds to (nil is returned then), nil if it is not wanted.
-- @string text @param wrap makes a Lua tensor of a C tensor
-- @treturn function raises what C says, and what is no tensor or no number by its name
function M.bind(text, wrap) return compiled(declaration(text), wrap) end

ffi.cdef [[
void *calloc(size_t count, size_t bytes);
void *realloc(void *old, size_t bytes);
void free(void *p);
char *realpath(const char *path, char *resolved);
]]

local function array(ctype, n, p)
  if p == nil then blame("no memory for %d numbers of type %s", n, ctype) end
  return ffi.gc(ffi.cast(ctype .. " *", p), C.free)
end

--- An array of zeros, for what may be large. It is not the collector's memory, of which there may be twice as
-- much as is in use; pages that are never written cost nothing.
-- @string ctype of an element
-- @int n how many
-- @return a pointer; what it points at ends with it
function M.zeros(ctype, n) return array(ctype, n, C.calloc(math.max(n, 1), ffi.sizeof(ctype))) end

--- The same array with another size, at another place perhaps; what is new in it may hold anything.
-- @param old of `zeros`, not to be used again; nil makes one
-- @string ctype @int n as in `zeros`
function M.resized(old, ctype, n)
  local p = C.realloc(old, math.max(n, 1) * ffi.sizeof(ctype))
  if old ~= nil and p ~= nil then ffi.gc(old, nil) end
  return array(ctype, n, p)
end

--- Give an array's memory back now.
-- @param p of `zeros` or `resized`, not to be used again; or nil
function M.free(p)
  if p ~= nil then C.free(ffi.gc(p, nil)) end
end

--- A handle whose reference the collector drops, unless `release` did before.
function M.owned(c) return ffi.gc(c, C.cft_tensor_release) end

function M.release(c)
  ffi.gc(c, nil)
  C.cft_tensor_release(c)
end

return M
