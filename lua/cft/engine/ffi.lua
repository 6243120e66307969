--- The one door to C: declarations, statuses as errors, tensors in and out.
-- No other file says `ffi.C`.

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

M.dtypes = {
  f32 = C.CFT_F32, bf16 = C.CFT_BF16, f64 = C.CFT_F64, f16 = C.CFT_F16,
  i32 = C.CFT_I32, i64 = C.CFT_I64, u8 = C.CFT_U8,
}
M.dtype_names = {}
for name, value in pairs(M.dtypes) do M.dtype_names[tonumber(value)] = name end

-- The C type of one element, for reading a tensor's contents on the host. bf16 and f16 have none
-- that Lua could count with: they are cast to f32 first.
M.element = { f32 = "float", f64 = "double", i32 = "int32_t", i64 = "int64_t", u8 = "uint8_t" }

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

local raw = M.raw
local function arg(v)
  if type(v) == "table" then return raw(v) end
  return v
end

-- Arguments from the fixed table of a call. `n` is given because trailing nils are NULLs.
local function args(n, ...)
  if n == 0 then return end
  return arg((...)), args(n - 1, select(2, ...))
end

-- "linear: x w b? #scale *layout" → the op's name, and what each argument must be: a tensor, with
-- `?` or nil; `#`, a number; `*`, a C value.
local function signature(text)
  local op, rest = text:match "^([%w_]+): (.*)$"
  local wanted = { op = op }
  for mark, name, may in rest:gmatch "([#*]?)([%w_]+)(%??)" do
    wanted[#wanted + 1] = { name = name, mark = mark, optional = may == "?" }
  end
  return wanted
end

--- A number, or an error at the user's line that names the argument.
function M.number(op, name, v)
  if type(v) ~= "number" and type(v) ~= "cdata" then
    blame("%s: '%s' must be a number, got %s", op, name, kind_of(v))
  end
end

-- C would take NULL for a tensor's address, and any number for a dimension.
local function checked(wanted, i, ...)
  local w = wanted[i]
  if not w then return end
  local v = ...
  if w.mark == "#" then
    M.number(wanted.op, w.name, v)
  elseif w.mark == "*" then
    if type(v) ~= "cdata" then blame("%s: '%s' is missing, got %s", wanted.op, w.name, kind_of(v)) end
  elseif v ~= nil or not w.optional then
    if type(v) ~= "table" or v.c == nil and not v.was then
      blame("%s: '%s' must be a tensor, got %s", wanted.op, w.name, kind_of(v))
    end
    v = raw(v)
  end
  return v, checked(wanted, i + 1, select(2, ...))
end

-- What turns a call's arguments into C's, and its first argument: how many there are, unchecked, for
-- calls that only the library makes; or a signature.
local function reader(arguments)
  if type(arguments) == "number" then return args, arguments end
  local wanted = signature(arguments)
  return function(at, ...) return checked(wanted, at, ...) end, 1
end

--- A C function without outputs (or that changes its arguments) as a Lua function.
-- @param f the C function
-- @tparam number|string arguments how many it takes; or, where users' values come in, its signature:
-- `"linear: x w b? #scale *layout"`, a tensor, one that may be nil, a number, a C value
function M.call(f, arguments)
  local read, first = reader(arguments)
  return function(...) try(f, read(first, ...)) end
end

--- A C function whose first `outs` parameters receive new tensors, as a Lua function that returns
-- them.
-- @param f the C function
-- @int outs
-- @tparam number|string arguments the others, as for `call`
-- @param wrap makes a Lua tensor of a C tensor
function M.maker(f, outs, arguments, wrap)
  local read, first = reader(arguments)
  local a, b, c = ffi.new "cft_tensor *[1]", ffi.new "cft_tensor *[1]", ffi.new "cft_tensor *[1]"
  if outs == 1 then
    return function(...)
      try(f, a, read(first, ...))
      return wrap(a[0])
    end
  elseif outs == 2 then
    return function(...)
      try(f, a, b, read(first, ...))
      return wrap(a[0]), wrap(b[0])
    end
  end
  return function(...)
    try(f, a, b, c, read(first, ...))
    return wrap(a[0]), wrap(b[0]), wrap(c[0])
  end
end

ffi.cdef [[
void *calloc(size_t count, size_t bytes);
void *realloc(void *old, size_t bytes);
void free(void *p);
]]

local function array(ctype, n, p)
  if p == nil then blame("no memory for %d numbers of type %s", n, ctype) end
  return ffi.gc(ffi.cast(ctype .. " *", p), C.free)
end

--- An array of zeros, for what may be large. It is none of the collector's memory, of which there may be twice as
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
