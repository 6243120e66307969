--- Tensors: constructors, views, copies, printing. Ops on them are in `cft.ops`.
--
-- A Lua tensor is a table around a C tensor: `c` the handle, `grad` its gradient, `node` the op that
-- made it (see `cft.autograd`). Dimensions count from 0, as in C, files and papers.

local door = require "cft.engine.ffi"
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local exit = require "cft.base.exit"
local finally = require "cft.base.finally"
local ffi, C = door.ffi, door.C

local M = {}
local Tensor = {}
Tensor.__index = Tensor
M.Tensor = Tensor  -- cft.ops adds methods and operators here

-- ---- lifetimes -------------------------------------------------------------------------------

-- Tensors made while a scope is open, in order. The collector is blind to device memory, so a
-- scope's end is what releases them.
local scope

local function describe(c)
  return ("(%s) %s"):format(table.concat(door.dims(c), ", "), door.dtype_names[tonumber(c.dtype)])
end

--- A Lua tensor around a C tensor whose reference is ours now.
-- @param c the handle
-- @treturn Tensor
-- @usage local ffi = require "cft.engine.ffi"
-- local x = cft.tensor { 1, 2 }
-- cft.tensor.wrap(ffi.C.cft_tensor_retain(ffi.raw(x)))   --> (2) f32 on cpu {1, 2}
function M.wrap(c)
  local t = setmetatable({ c = door.owned(c) }, Tensor)
  if scope then scope[#scope + 1] = t end
  return t
end
local wrap = M.wrap

--- Is this a tensor?
-- @param v any value
-- @treturn bool
-- @usage cft.tensor.is(cft.zeros { 1 }), cft.tensor.is { 1 }   --> true false
function M.is(v) return getmetatable(v) == Tensor end

--- Release the memory now. Using the tensor afterwards is an error that says so.
-- @string[opt] why for that error
-- @usage local x = cft.zeros { 1000 }
-- x:release "with its cache"
-- select(2, pcall(x.sum, x))   --> "...(1000) f32 was released with its cache..."
function Tensor:release(why)
  local c = self.c
  if c == nil then return end
  self.was, self.why, self.c = describe(c), why, nil
  door.release(c)
end

--- Take the memory of another tensor, which is released by that: whoever knows this one, the tape among them, finds that memory
-- from here on.
-- @tparam Tensor other
-- @treturn Tensor itself
-- @usage local x = cft.zeros { 2 }
-- x:release()
-- x:become(cft.ones { 2 })   --> (2) f32 on cpu {1, 1}
function Tensor:become(other)
  self:release()
  self.c, other.c = other.c, nil
  other.was, other.why = describe(self.c), "when another tensor took its memory"
  return self
end

local sixteen = ffi.new "uint8_t[16]"

--- The XXH3-128 of its bytes.
-- @treturn string of 16
-- @usage cft.ones({ 2 }):digest() == cft.ones({ 2 }):digest(), cft.ones({ 2 }):digest() == cft.zeros({ 2 }):digest()   --> true false
function Tensor:digest()
  local host = self:is_contiguous() and M.device_name(self:device()) == "cpu" and self or M.contiguous(self:to "cpu")
  C.cft_bytes_hash(sixteen, host.c.data, host:bytes())
  if host ~= self then host:release() end
  return ffi.string(sixteen, 16)
end

--- Let this tensor outlive the step or scope it was made in.
-- @treturn Tensor itself
-- @usage local sum = cft.scope(function()
--   local x = cft.randn { 3, 4 }
--   return (x * x):sum():keep()
-- end)
-- sum:item() > 0   --> true
function Tensor:keep()
  self.kept = true
  return self
end

--- The forward pass needs this tensor no more: its memory is released, unless a backward rule saved
-- it. The tape still passes through it.
-- @usage local x = cft.ones({ 2 }, { requires_grad = true })
-- local y = x + x
-- local z = y:relu()
-- y:drop()
-- z:sum():backward()
-- x.grad   --> (2) f32 on cpu {2, 2}
function Tensor:drop()
  if not self.kept and not self.saved then self:release "when the forward pass needed it no more" end
end

-- Run `fn` with a list of its own for what it makes. @return the list, what pcall returns
local function listed(fn, ...)
  local outer, mine = scope, {}
  scope = mine
  local results = { xpcall(fn, function(e) return e end, ...) }
  scope = outer
  return mine, results
end

local function returned(results)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

--- Tensors made in `fn` are released when it ends, but those that were told to `:keep()`.
-- @param fn called with the further arguments
-- @return what fn returns
function M.scope(fn, ...)
  local mine, results = listed(fn, ...)
  for i = #mine, 1, -1 do
    local t = mine[i]
    if t.kept then
      if scope then scope[#scope + 1] = t end
    else
      t:release "at the end of its scope"
      t.node = nil
    end
  end
  return returned(results)
end

--- Run a block of a model and release what the forward pass needs no more when it ends: tensors made in it,
-- and of its arguments those that a block returned; but none that `fn` returns. `:drop()` says which stay.
-- @param fn called with the further arguments
-- @return what fn returns; it may be given to one block
-- @usage local w = cft.ones({ 2, 2 }, { requires_grad = true })
-- cft.tensor.block(function(x) return cft.ops.linear(x, w):relu() end, cft.ones { 1, 2 })   --> (1, 2) f32 on cpu {{2, 2}}
function M.block(fn, ...)
  if type(fn) ~= "function" then blame("tensor.block: a function is wanted, got %s", tostring(fn)) end
  local mine, results = listed(fn, ...)
  local stays = {}
  for i = 2, table.maxn(results) do
    local t = results[i]
    if M.is(t) then stays[t], t.of_block = true, true end
  end
  for _, t in ipairs(mine) do
    if results[1] and not stays[t] then t:drop() end
    if scope then scope[#scope + 1] = t end
  end
  for i = 1, results[1] and select("#", ...) or 0 do
    local t = select(i, ...)
    if M.is(t) and t.of_block and not stays[t] then t:drop() end
  end
  return returned(results)
end

--- How many tensors the open scope has seen; nil outside of one.
function M.scope_mark() return scope and #scope end

--- The tensors that the open scope has seen since a mark: how the tape knows what an op made.
-- @tparam ?int mark of `scope_mark`; nil gives none
-- @treturn {Tensor,...}
-- @usage cft.scope(function()
--   local mark = cft.tensor.scope_mark()
--   local x = cft.zeros { 2 } + 1
--   return #cft.tensor.scope_since(mark)
-- end)   --> 3
function M.scope_since(mark)
  local made = {}
  if scope and mark then
    for i = mark + 1, #scope do made[#made + 1] = scope[i] end
  end
  return made
end

-- ---- devices ---------------------------------------------------------------------------------

local device_out = ffi.new "cft_device *[1]"
local default_device

--- The device of that name.
-- @string name "cpu", "cuda", "cuda:N" or "auto"; a device is itself
-- @usage local d = cft.tensor.device "cpu"
-- cft.tensor.device_name(d), cft.tensor.best_dtype(d)
-- cft.tensor.device_description(d)
-- cft.tensor.set_autotune(d, false)
function M.device(name)
  if type(name) ~= "string" then return name end
  local status = C.cft_device_open(device_out, name)
  if status == C.CFT_E_DEVICE then exit.fail(exit.DEVICE, "%s", ffi.string(C.cft_last_error())) end
  door.check(status)
  return device_out[0]
end

--- The device new tensors are made on. @tparam[opt] string name sets it
-- @usage cft.tensor.device_name(cft.tensor.default_device "cpu")   --> "cpu"
function M.default_device(name)
  if name then default_device = M.device(name) end
  default_device = default_device or M.device "cpu"
  return default_device
end

--- What names a GPU among all of its host, whatever number it has for this process; "" of the CPU.
-- @param d a device
-- @usage cft.tensor.uuid(cft.tensor.device "cpu")   --> ""
function M.uuid(d) return d.uuid ~= nil and ffi.string(d.uuid) or "" end

--- Why "auto" took the CPU; "" where it took a GPU.
function M.why_cpu() return ffi.string(C.cft_device_why_cpu()) end

--- What this machine has of a GPU: module, driver, GPUs, libraries. No device is opened.
-- @treturn {table,...} of `name`, `state` ("ok", "missing" or "old") and `detail`
-- @usage for _, part in ipairs(cft.tensor.gpu_report()) do print(part.name, part.state, part.detail) end
-- cft.tensor.why_cpu()
function M.gpu_report()
  local room = 16384
  local buffer = ffi.new("char[?]", room)
  local text, rows = ffi.string(buffer, C.cft_device_report(buffer, room)), {}
  for name, state, detail in text:gmatch "([^\t\n]*)\t([^\t\n]*)\t([^\n]*)" do
    rows[#rows + 1] = { name = name, state = state, detail = detail }
  end
  return rows
end

--- What kernels and devices had to say since this was last asked (a setting that is ignored, a way that an
-- op takes): a list of sentences.
-- @usage cft.tensor.notes()   --> {}
function M.notes()
  local notes, text = {}, C.cft_next_note()
  while text ~= nil do
    notes[#notes + 1], text = ffi.string(text), C.cft_next_note()
  end
  return notes
end

--- The dtype a device trains fastest in: "bf16" or "f32".
-- @param d a device
function M.best_dtype(d) return d.fast_bf16 ~= 0 and "bf16" or "f32" end

--- Whether a GPU's matmuls are timed when they first meet a shape, and the fastest kept in a file (true),
-- or the library's first suggestion is taken (false). Nothing to the CPU.
-- @param device or its name
-- @bool on
function M.set_autotune(device, on) C.cft_device_set_autotune(M.device(device), on and 1 or 0) end

--- Threads that the CPU's kernels use from now on. Results do not depend on it.
-- @int n 1 to 1024
-- @usage cft.tensor.set_threads(cft.tensor.threads())
function M.set_threads(n) door.check(C.cft_cpu_set_threads(n)) end

--- How many they are.
-- @treturn int
function M.threads() return C.cft_cpu_threads() end

--- Whether, from now on, a row of a product x w^T (linear, logits) and of attention's forward must not depend, to the
-- bit, on the rows beside it (true), or a GPU's libraries may choose by their number (false, as it opens). Other products on
-- a GPU are refused while it is true. The CPU's rows never depend on others, but sums of x w^T have two orders there:
-- generation's (true), in which few rows are fastest, and training's (false). A model's log-probabilities have the bits of
-- those that generation gives where it is true.
-- @param device or its name
-- @bool on
-- @treturn bool what it was
-- @usage print(cft.tensor.set_rows_alone("cpu", false))   --> false
function M.set_rows_alone(device, on) return C.cft_device_set_rows_alone(M.device(device), on and 1 or 0) ~= 0 end

--- "cpu", "cuda:0".
-- @param d a device
function M.device_name(d) return ffi.string(C.cft_device_name(d)) end
--- A device in words, with its threads or its memory.
-- @param d a device
function M.device_description(d) return ffi.string(C.cft_device_description(d)) end

local classes = { "other", "param", "grad", "optim", "activation", "workspace", "cache" }
local class_number = {}
for i, name in ipairs(classes) do class_number[name] = i - 1 end

--- What fills a device, in bytes: a field a class, and `total`, `peak`, `reserved`, `limit`.
-- @param[opt] device or its name; the default device
-- @bool[opt] reset_peak begin the peak anew
-- @usage cft.tensor.memory("cpu", true).total >= 0   --> true
function M.memory(device, reset_peak)
  local use = ffi.new "cft_memory_use"
  door.check(C.cft_device_memory(M.device(device or M.default_device()), use, reset_peak and 1 or 0))
  local t = { total = tonumber(use.total), peak = tonumber(use.peak),
              reserved = tonumber(use.reserved), limit = tonumber(use.limit) }
  for i, name in ipairs(classes) do t[name] = tonumber(use.bytes[i - 1]) end
  return t
end

--- Count what `fn` allocates under a class of memory.
-- @string name "param", "grad", "optim", "activation", "workspace", "cache" or "other"
-- @func fn called with the further arguments
-- @return what fn returns
-- @usage local x = cft.tensor.as_class("param", cft.zeros, { 1000 })
-- cft.tensor.memory("cpu").param >= 4000   --> true
function M.as_class(name, fn, ...)
  local before = C.cft_memory_class_set(class_number[name] or blame("no memory class " .. name))
  return finally(function() C.cft_memory_class_set(before) end, fn, ...)
end

-- ---- constructors ----------------------------------------------------------------------------

local out = ffi.new "cft_tensor *[1]"
local dims_buffer = ffi.new "int64_t[6]"

local function put_dims(dims)
  if type(dims) == "number" then dims = { dims } end
  if type(dims) ~= "table" then blame("a shape is a table of numbers, not " .. type(dims)) end
  if #dims > 6 then blame(("%d dimensions; at most 6 are possible"):format(#dims)) end
  for i, d in ipairs(dims) do
    if type(d) ~= "number" or d ~= math.floor(d) or math.abs(d) >= 2 ^ 63 then
      blame(("dimension %d of a shape is %s; a whole number wanted"):format(i - 1, tostring(d)))
    end
    dims_buffer[i - 1] = d
  end
  return #dims
end

local spec = { dtype = { "string", "f32" }, device = { "any", optional = true }, requires_grad = { "boolean", false } }

local function options(where, opts, extra)
  local s = spec
  if extra then
    s = {}
    for k, v in pairs(spec) do s[k] = v end
    for k, v in pairs(extra) do s[k] = v end
  end
  local o = check.options(where, opts or {}, s)
  if not door.dtypes[o.dtype] then
    blame("%s: no dtype '%s'; there are %s", where, o.dtype, table.concat(door.dtype_list, ", "))
  end
  return o
end

local function make(dims, o, zeros)
  local n = put_dims(dims)
  local d = M.device(o.device or M.default_device())
  door.try(zeros and C.cft_tensor_zeros or C.cft_tensor_new, out, d, door.dtypes[o.dtype], n, dims_buffer)
  local t = wrap(out[0])
  t.requires_grad = o.requires_grad or nil
  return t
end

--- A tensor with undefined contents. @tab dims @tab[opt] opts `dtype`, `device`, `requires_grad`
-- @usage cft.tensor.empty({ 2, 3 }, { dtype = "bf16" }):shape()   --> { 2, 3 }
function M.empty(dims, opts) return make(dims, options("tensor.empty", opts)) end

--- A tensor of one number. @tab dims @number value @tab[opt] opts as of `empty`
-- @usage cft.full({ 2 }, 0.5)   --> (2) f32 on cpu {0.5, 0.5}
function M.full(dims, value, opts)
  door.number("full", "value", value)
  local t = make(dims, options("tensor.full", opts))
  door.check(C.cft_tensor_fill(t.c, value))
  return t
end

--- A tensor of zeros. @tab dims @tab[opt] opts as of `empty`
-- @usage cft.zeros { 2, 3 }   --> (2, 3) f32 on cpu {{0, 0, 0},  {0, 0, 0}}
function M.zeros(dims, opts) return make(dims, options("tensor.zeros", opts), true) end

--- A tensor of ones. @tab dims @tab[opt] opts as of `empty`
-- @usage cft.ones({ 3 }, { dtype = "i32" })   --> (3) i32 on cpu {1, 1, 1}
function M.ones(dims, opts) return M.full(dims, 1, opts) end

-- Without a seed, each call takes the next counter of a process-wide stream.
local next_counter = 0
local random_extra = { seed = { "number", optional = true }, counter = { "number", optional = true } }

local function random(where, f, dims, opts, a, b)
  local o = options(where, opts, random_extra)
  local t = make(dims, o)
  local counter = o.counter or 0
  if not o.seed then
    next_counter = next_counter + 1
    counter = next_counter
  end
  door.check(C.cft_tensor_random(t.c, f, o.seed or 0, counter, a, b))
  return t
end

--- Standard normal numbers. @tab dims @tab[opt] opts as of `empty`; `seed` and `counter` fix the numbers
-- @usage cft.randn({ 2 }, { seed = 1, counter = 0 })   --> (2) f32 on cpu {0.3804, -0.29628}
function M.randn(dims, opts) return random("tensor.randn", C.CFT_NORMAL, dims, opts, 0, 1) end

--- Numbers uniform in [0, 1). @tab dims @tab[opt] opts as of `randn`
-- @usage cft.rand({ 2, 2 }, { seed = 1, counter = 0 })   --> (2, 2) f32 on cpu {{0.89026, 0.89468},  {0.58573, 0.71127}}
function M.rand(dims, opts) return random("tensor.rand", C.CFT_UNIFORM, dims, opts, 0, 1) end

--- Overwrite with normal numbers: a pure function of (seed, counter).
-- @int seed @int counter @number[opt=0] mean @number[opt=1] std
-- @usage cft.zeros({ 2 }):normal_(1, 0, 0, 0.02)   --> (2) f32 on cpu {0.007608, -0.0059256}
function Tensor:normal_(seed, counter, mean, std)
  door.check(C.cft_tensor_random(door.raw(self), C.CFT_NORMAL, seed, counter, mean or 0, std or 1))
  return self
end

-- The shape that the first entries of nested tables promise.
local function shape_of(v)
  local dims = {}
  while type(v) == "table" do
    dims[#dims + 1] = #v
    v = v[1]
  end
  return dims
end

-- Append the numbers of nested tables to `flat`, in order; each must keep the promise.
local function flatten(v, dims, depth, flat)
  if depth > #dims then
    if type(v) ~= "number" then blame(("a %s among the numbers of a tensor"):format(type(v))) end
    flat[#flat + 1] = v
    return
  end
  if type(v) ~= "table" or #v ~= dims[depth] then blame "ragged nested tables make no tensor" end
  for _, e in ipairs(v) do flatten(e, dims, depth + 1, flat) end
end

--- A tensor from nested tables of numbers, or from one number.
-- @tab data
-- @tab[opt] opts `dtype`, `device`, `requires_grad`
-- @treturn Tensor
-- @usage local x = cft.tensor { { 1, 2 }, { 3, 4 } }
-- x[2]   --> (2) f32 on cpu {3, 4}
-- cft.tensor.new(2.5, { dtype = "f64" })   --> () f64 on cpu 2.5
function M.new(data, opts)
  local o = options("tensor.new", opts)
  local dims, flat = shape_of(data), {}
  flatten(data, dims, 1, flat)
  local host = door.element[o.dtype] and o.dtype or "f32"
  local buffer = ffi.new(door.element[host] .. "[?]", #flat)
  for i, v in ipairs(flat) do buffer[i - 1] = v end
  return M.from_host(buffer, dims, host, o)
end

--- A tensor from an FFI array. @param buffer @tab dims @string dtype of the buffer's elements
-- @tab[opt] opts `dtype` to cast to, `device`
-- @usage local numbers = require("ffi").new("float[4]", { 1, 2, 3, 4 })
-- cft.tensor.from_host(numbers, { 2, 2 }, "f32")   --> (2, 2) f32 on cpu {{1, 2},  {3, 4}}
function M.from_host(buffer, dims, dtype, opts)
  local o = opts or {}
  local t = make(dims, { dtype = dtype, device = o.device })
  door.check(C.cft_tensor_write(t.c, buffer, C.cft_tensor_bytes(t.c)))
  if o.dtype and o.dtype ~= dtype then
    local cast = t:to(o.dtype)
    t:release()
    t = cast
  end
  t.requires_grad = o.requires_grad or nil
  return t
end

-- ---- asking ----------------------------------------------------------------------------------

--- The dimensions as so many numbers.
-- @usage local x = cft.zeros { 2, 3 }
-- local B, T = x:dims()
-- x:shape(), x:dim(1), x:ndim(), x:count(), x:bytes(), x:dtype()   --> { 2, 3 } 3 2 6 24 "f32"
function Tensor:dims() return unpack(door.dims(door.raw(self))) end

--- The dimensions as a table.
function Tensor:shape() return door.dims(door.raw(self)) end
--- The size of a dimension. @int i from 0
function Tensor:dim(i) return tonumber(door.raw(self).dims[i]) end
--- How many dimensions.
function Tensor:ndim() return door.raw(self).ndim end
--- How many numbers.
function Tensor:count() return tonumber(C.cft_tensor_count(door.raw(self))) end
--- How many bytes its numbers take.
function Tensor:bytes() return tonumber(C.cft_tensor_bytes(door.raw(self))) end
--- "f32", "bf16", "f16", "f64", "i32" ...
function Tensor:dtype() return door.dtype_names[tonumber(door.raw(self).dtype)] end
--- The device it is on: a C handle, see `device_name`.
-- @usage cft.tensor.device_name(cft.zeros({ 1 }):device())   --> "cpu"
function Tensor:device() return door.raw(self).device end
--- Are its numbers in row-major order without gaps?
-- @usage local x = cft.zeros { 2, 3 }
-- local y = cft.tensor.transpose(x, 0, 1)
-- y:is_contiguous(), y:shares(x), cft.tensor.contiguous(y):shares(x)   --> false true false
function Tensor:is_contiguous() return C.cft_tensor_is_contiguous(door.raw(self)) ~= 0 end
--- Do the two have memory in common? @tparam Tensor other
function Tensor:shares(other) return C.cft_tensor_shares(door.raw(self), door.raw(other)) ~= 0 end

--- The contents on the host: an FFI array and its length. bf16 and f16 come as float.
-- @usage local numbers, n = cft.tensor({ 1, 2, 3 }):to_host()
-- n, numbers[2]   --> 3 3
function Tensor:to_host()
  local t, temporary = self, nil
  if not door.element[t:dtype()] then
    temporary = M.cast(t, "f32")
    t = temporary
  end
  if not t:is_contiguous() then
    local flat = M.contiguous(t)
    if temporary then temporary:release() end
    t, temporary = flat, flat
  end
  local n = t:count()
  local buffer = ffi.new(door.element[t:dtype()] .. "[?]", math.max(n, 1))
  door.check(C.cft_tensor_read(t.c, buffer, C.cft_tensor_bytes(t.c)))
  if temporary then temporary:release() end
  return buffer, n
end

--- The contents of several tensors of one device, by a single wait for it.
-- @tab list
-- @treturn table an FFI array for each, of double where one of them is f64, else of float
-- @usage local loss, norm = unpack(cft.tensor.read_all { cft.tensor(2.5), cft.tensor(1) })
-- loss[0], norm[0]   --> 2.5 1
function M.read_all(list)
  local dtype, counts, total = "f32", {}, 0
  for i, t in ipairs(list) do
    if t:dtype() == "f64" then dtype = "f64" end
    counts[i] = t:count()
    total = total + counts[i]
  end
  local flat = M.empty({ total }, { dtype = dtype, device = list[1]:device() })
  local at = 0
  for i, t in ipairs(list) do
    local to, from = M.narrow(flat, 0, at, counts[i]), M.reshape(t, { counts[i] })
    to:copy_(from)
    to:release()
    from:release()
    at = at + counts[i]
  end
  local numbers, arrays = flat:to_host(), {}
  flat:release()
  at = 0
  for i, n in ipairs(counts) do
    arrays[i] = ffi.new(door.element[dtype] .. "[?]", math.max(n, 1))
    ffi.copy(arrays[i], numbers + at, n * ffi.sizeof(door.element[dtype]))
    at = at + n
  end
  return arrays
end

--- The contents as nested tables.
-- @usage cft.tensor({ { 1, 2 }, { 3, 4 } }):to_table()[2]   --> { 3, 4 }
function Tensor:to_table()
  local buffer = self:to_host()
  local dims, at = self:shape(), 0
  local function build(depth)
    if depth > #dims then
      at = at + 1
      return tonumber(buffer[at - 1])
    end
    local t = {}
    for i = 1, dims[depth] do t[i] = build(depth + 1) end
    return t
  end
  return build(1)
end

--- The number in a tensor of one element.
-- @usage cft.tensor({ 1, 2, 3 }):sum():item()   --> 6
function Tensor:item()
  if self:count() ~= 1 then
    blame(("item: a tensor %s has %d numbers, not one"):format(describe(self.c), self:count()))
  end
  return tonumber((self:to_host())[0])
end

-- ---- contents --------------------------------------------------------------------------------

--- Overwrite with one number. @number value @treturn Tensor itself
-- @usage cft.zeros({ 3 }):fill_(7)   --> (3) f32 on cpu {7, 7, 7}
function Tensor:fill_(value)
  door.number("fill", "value", value)
  door.check(C.cft_tensor_fill(door.raw(self), value))
  return self
end

--- Overwrite with zeros. @treturn Tensor itself
-- @usage cft.ones({ 3 }):zero_()   --> (3) f32 on cpu {0, 0, 0}
function Tensor:zero_()
  door.check(C.cft_tensor_zero(door.raw(self)))
  return self
end

--- Overwrite with what an FFI array holds, of this dtype. @param buffer @treturn Tensor itself
-- @usage cft.zeros({ 2 }):write_(require("ffi").new("float[2]", { 1, 2 }))   --> (2) f32 on cpu {1, 2}
function Tensor:write_(buffer)
  door.check(C.cft_tensor_write(door.raw(self), buffer, C.cft_tensor_bytes(self.c)))
  return self
end

--- Overwrite with another tensor's contents; dtype and device may differ.
-- @tparam Tensor from of the same shape
-- @treturn Tensor itself
-- @usage cft.zeros({ 2 }, { dtype = "bf16" }):copy_(cft.tensor { 1, 2 })   --> (2) bf16 on cpu {1, 2}
function Tensor:copy_(from)
  door.check(C.cft_tensor_copy(door.raw(self), door.raw(from)))
  return self
end

-- The plain forms, outside the tape; `cft.ops` has the ones that are recorded.

--- Another dtype: a copy. @tparam Tensor x @string dtype @treturn Tensor
-- @usage cft.tensor.cast(cft.tensor { 1.001, 2 }, "bf16")   --> (2) bf16 on cpu {1, 2}
M.cast = function(x, dtype)
  door.try(C.cft_cast, out, door.raw(x), door.dtypes[dtype] or blame("no dtype " .. tostring(dtype)))
  return wrap(out[0])
end

--- A copy in row-major order. @tparam Tensor x @treturn Tensor
-- @usage cft.tensor.contiguous(cft.tensor.transpose(cft.tensor { { 1, 2 }, { 3, 4 } }, 0, 1))   --> (2, 2) f32 on cpu {{1, 3},  {2, 4}}
M.contiguous = door.bind("contiguous: x -> y", wrap)

--- A part of a dimension, from 0: a view. @tparam Tensor x @int dim @int start @int len @treturn Tensor
-- @usage cft.tensor.narrow(cft.tensor { 10, 11, 12, 13 }, 0, 1, 2)   --> (2) f32 on cpu {11, 12}
M.narrow = door.bind("tensor_narrow: x #dim #start #len -> y", wrap)

--- The same numbers in another shape: a view. @tparam Tensor x @tab dims @treturn Tensor
-- @usage cft.tensor.reshape(cft.tensor { 1, 2, 3, 4, 5, 6 }, { 2, 3 })   --> (2, 3) f32 on cpu {{1, 2, 3},  {4, 5, 6}}
M.reshape = function(x, dims)
  local n = put_dims(dims)
  door.check(C.cft_tensor_reshape(out, door.raw(x), n, dims_buffer))
  return wrap(out[0])
end

--- Two dimensions, from 0, exchanged: a view. @tparam Tensor x @int a @int b @treturn Tensor
-- @usage cft.tensor.transpose(cft.tensor { { 1, 2, 3 } }, 0, 1):shape()   --> { 3, 1 }
M.transpose = door.bind("tensor_transpose: x #a #b -> y", wrap)

--- The same values in another dtype or on another device; a copy.
-- @string where "bf16", "cuda:0"
-- @treturn Tensor
-- @usage cft.tensor({ 1, 2 }):to "f64"   --> (2) f64 on cpu {1, 2}
function Tensor:to(where)
  if door.dtypes[where] then return M.cast(self, where) end
  return make(self:shape(), { dtype = self:dtype(), device = M.device(where) }):copy_(self)
end

--- A view of the same memory that no gradient flows through.
-- @usage local x = cft.ones({ 2 }, { requires_grad = true })
-- local y = x:detach()
-- y.requires_grad, y:shares(x)   --> nil true
function Tensor:detach() return wrap(C.cft_tensor_retain(door.raw(self))) end

-- ---- printing --------------------------------------------------------------------------------

local SHOWN = 8            -- entries of a dimension; of a longer one four and three
local WHOLE = 10000        -- numbers of a tensor that is read as a whole to be shown
local COUNTED = 2 ^ 26     -- and to be counted

local function number(v)
  if v == math.floor(v) and math.abs(v) < 1e7 then return ("%d"):format(v) end
  return ("%.5g"):format(v)
end

-- Which entries of n are shown, from 1; 0 stands for those between.
local function shown(n, few)
  local list = {}
  for i = 1, n do
    local from, to = few and 1 or 4, few and n or n - 2
    if n <= SHOWN and not few or i <= from or i >= to then list[#list + 1] = i
    elseif list[#list] ~= 0 then list[#list + 1] = 0 end
  end
  return list
end

-- Nested braces around what `entry(i)` gives.
local function braces(n, few, nested, indent, entry)
  local parts = {}
  for _, i in ipairs(shown(n, few)) do parts[#parts + 1] = i == 0 and "..." or entry(i) end
  return "{" .. table.concat(parts, nested and ",\n" .. indent or ", ") .. "}"
end

local function rows(v, indent)
  if type(v) ~= "table" then return number(v) end
  return braces(#v, false, type(v[1]) == "table", indent, function(i) return rows(v[i], indent .. " ") end)
end

-- The same of a tensor that is too large to be read: its corners alone are. Of more than two dimensions the
-- first and the last matrix.
local function corners(t, indent)
  local dims = t:shape()
  if #dims == 0 or t:count() <= SHOWN then return rows(t:to_table(), indent) end
  return braces(dims[1], #dims > 2, #dims > 1, indent, function(i)
    local entry = M.narrow(t, 0, i - 1, 1)
    if #dims == 1 then return number(entry:item()) end
    return corners(M.reshape(M.contiguous(entry), { unpack(dims, 2) }), indent .. " ")
  end)
end

-- min, mean, max and how many are no numbers, of those that are.
local function statistics(t)
  local buffer, n = t:to_host()
  local least, most, sum, nans = math.huge, -math.huge, 0, 0
  for i = 0, n - 1 do
    local v = tonumber(buffer[i])
    if v ~= v then
      nans = nans + 1
    else
      least, most, sum = math.min(least, v), math.max(most, v), sum + v
    end
  end
  if nans == n then return ("%d NaN"):format(nans) end
  local text = ("min %s, mean %s, max %s"):format(number(least), number(sum / (n - nans)), number(most))
  return nans > 0 and ("%s, %d NaN"):format(text, nans) or text
end

--- Shape, dtype, device and numbers; of a large tensor its corners, min, mean, max and how many are NaN.
function Tensor:__tostring()
  if self.c == nil then return "released tensor " .. (self.was or "") end
  local head = ("%s on %s"):format(describe(self.c), M.device_name(self.c.device))
  if self:count() <= WHOLE then return head .. "\n" .. rows(self:to_table(), " ") end
  return M.scope(function()
    local about = self:count() <= COUNTED and statistics(self) or "too large for min, mean and max here"
    return ("%s; %s\n%s"):format(head, about, corners(self, " "))
  end)
end

function Tensor:__len() return self:dim(0) end

return setmetatable(M, { __call = function(_, ...) return M.new(...) end })
