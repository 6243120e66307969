-- The tables of docs/ops/README.md: which device has which kernel in which dtype, and how each op is tested.
--
--   export CFT_CACHE= CFT_CUDA_MODULE=build/cpu/libcft_cuda_emu.so
--   cftrun scripts/print_ops.lua FILE            print FILE with its tables
--   cftrun scripts/print_ops.lua --write FILE    and write it
--
-- Devices are asked, by a call of every slot of their table with one small row in each dtype. CUDA's is that of
-- CFT_CUDA_MODULE, or of a GPU; where there is neither, the cells of FILE stay as they are. Tests are those that
-- tests/ops, tests/c and tests/cuda_emu have. An op or a kernel that is not explained below ends the script.

local door = require "cft.engine.ffi"
local files = require "cft.io.files"
local formulas = require "cft.engine.rules.formulas"
local host = require "cft.host"
local op = require "tests.op"
local rules = require "cft.engine.rules"
local tensor = require "cft.engine.tensor"

local C, ffi = door.C, door.ffi
local DTYPES = { "f32", "bf16", "f64", "f16" }

-- What a kernel computes and what its gradient is made of, in the order of kernels/kernels.h.
local kernels = {
  { "matmul", "c = op(a) op(b) [+ c] [+ bias], op(a) is a or its transpose", "`matmul`" },
  { "embedding_fwd", "y[i] = table[ids[i]]", "`embedding_bwd`" },
  { "embedding_bwd", "dtable[ids[i]] += dy[i], in order of i", "" },
  { "gather_rows", "y[i] = x[index[i]]", "`scatter_rows`" },
  { "scatter_rows", "y[index[i]] = x[i], or += x[i]", "" },
  { "rmsnorm_fwd", "s = x + residual; y = w s / sqrt(mean(s^2) + eps)", "`rmsnorm_bwd`" },
  { "rmsnorm_bwd", "ds = rstd (w dy - shat mean(w dy shat)) + dsum, shat = s rstd; dw = sum of dy shat", "" },
  { "rope", "pairs (j, j + D/2) of a head turned by their position's angle", "`rope`, turned back" },
  { "swiglu_fwd", "y = gate sigmoid(gate) up", "`swiglu_bwd`" },
  { "swiglu_bwd", "dgate = dy up s (1 + gate (1 - s)), s = sigmoid(gate); dup = dy gate s", "" },
  { "relu2_fwd", "y = max(x, 0)^2", "`relu2_bwd`" },
  { "relu2_bwd", "dx = 2 max(x, 0) dy", "" },
  { "attention_fwd", "[attention.md](attention.md)", "`attention_bwd`" },
  { "attention_bwd", "[attention.md](attention.md)", "" },
  { "attention_merge", "[attention.md](attention.md#behind-a-shared-prefix)", "`attention_bwd` of each part" },
  { "cross_entropy", "nll = logsumexp(logits) - logits[target]; grad = scale weight (softmax(logits) - onehot)",
    "itself, in the same pass" },
  { "softmax_fwd", "y = exp(x - max) / sum exp(x - max), of each row", "`softmax_bwd`" },
  { "softmax_bwd", "dx = y (dy - sum(y dy))", "" },
  { "unary", "y = alpha f(x): neg exp log sqrt rsqrt tanh sigmoid relu silu abs sin cos square reciprocal step",
    "`unary`, `binary`; none of step" },
  { "binary", "y = f(a, b): add sub mul div max min pow; b as it is, a row, a number a row, or one number",
    "`unary`, `binary`, `reduce`; none of max, min, pow" },
  { "axpby", "y = alpha x + beta y", "none" },
  { "reduce", "over one dimension: sum, maximum, argmax, sum of squares", "`binary`; none but of sum" },
  { "cast", "y = x in another dtype, to nearest even", "`cast`" },
  { "strided_copy", "y = x, laid out otherwise", "`strided_copy`" },
  { "fill", "y = value", "none" },
  { "random", "Philox4x32-10: uniform or normal, a function of (seed, counter, place)", "none" },
  { "sum_squares", "out += alpha sum(x^2), in f64", "none" },
  { "clip_scale", "scale min(1, max_norm / (norm + 1e-6))", "none" },
  { "adamw", "AdamW with decoupled decay: [kernels/kernels.h](../../kernels/kernels.h)", "none" },
  { "attention_paged", "[attention.md](attention.md#keys-in-pages)", "none" },
  { "sample", "one token of each row of logits, and log-probabilities: [kernels/kernels.h](../../kernels/kernels.h)",
    "none" },
}

-- ---- devices ------------------------------------------------------------------------------------

-- The fields of a kernel's arguments, from the declarations that C was compiled from: a list of { type, name }.
local function fields_of(args)
  local text = ffi.string(C.cft_cdef()):match("typedef struct " .. args .. " (%b{})")
  local list = {}
  for declaration in text:gmatch "%s*([^;{}]+);" do
    local kind, names = declaration:match "^%s*(const%s+[%w_]+)%s+(.*)$"
    if not kind then kind, names = declaration:match "^%s*([%w_]+)%s+(.*)$" end
    for name in names:gmatch "[^,]+" do
      list[#list + 1] = { kind .. (name:find "%*" and " *" or ""), name:match "([%w_]+)" }
    end
  end
  return list
end

-- One row of the smallest sizes that mean something; what is not set is 0, or NULL.
local sizes = { d = 8, D = 64, V = 8, page = 32 }
local left_out = { bias = true, a_sum = true, k_len = true, q_position = true, master = true }
local always = { cft_sample_args = true, cft_attention_paged_args = true }  -- nothing of these may be NULL

local function arguments(args, dtype, numbers, indices)
  local a, wide = ffi.new(args), dtype == "f64" and C.CFT_F64 or C.CFT_F32
  for _, field in ipairs(fields_of(args)) do
    local kind, name = unpack(field)
    local absent = left_out[name] and not always[args]
    if kind == "cft_dtype" then a[name] = C["CFT_" .. dtype:upper()]
    elseif kind == "const int32_t *" then a[name] = not absent and indices or nil
    elseif kind:find "%*$" then a[name] = not absent and ffi.cast("void *", numbers) or nil
    elseif kind == "int64_t" and args == "cft_strided_args" then
      for i = 0, 5 do a[name][i] = 1 end
    elseif kind == "int64_t" then a[name] = sizes[name] or name:find "_stride$" and 64 or 1
    elseif kind == "int" and name == "ndim" then a[name] = 1 end
  end
  if args == "cft_adamw_args" then a.state_dtype = wide end
  if args == "cft_cast_args" then a.y_dtype = dtype == "f32" and C.CFT_BF16 or C.CFT_F32 end
  return a
end

-- Of a device: kernel → the dtypes it takes, as the page has them.
local function kernels_of(name)
  local device, found = tensor.device(name), {}
  local function address(t) return door.raw(t).data end
  local numbers = tensor.zeros({ 4096 }, { device = name })
  local indices = tensor.new({ 0, 1, 0, 0 }, { dtype = "i32" }):to(name)
  local text = ffi.string(C.cft_cdef()):match "typedef struct cft_kernels (%b{})"
  local order = {}
  for slot, args in text:gmatch "%(%s*%*%s*([%w_]+)%s*%)%s*%([^)]-const ([%w_]+)%s*%*" do
    order[#order + 1], found[slot] = slot, {}
    local has = device.kernels[slot] ~= nil  -- an empty slot
    for _, dtype in ipairs(has and (args == "cft_clip_args" and { "f32" } or DTYPES) or {}) do
      local status = device.kernels[slot](device, nil, arguments(args, dtype, address(numbers), address(indices)))
      if status == C.CFT_OK then
        table.insert(found[slot], dtype)
      elseif status ~= C.CFT_E_UNSUPPORTED then
        error(("%s on %s in %s: %s"):format(slot, name, dtype, ffi.string(C.cft_last_error())), 0)
      end
    end
    found[slot] = table.concat(found[slot], " ")
  end
  return found, order
end

-- ---- tests --------------------------------------------------------------------------------------

local function contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function suites_of(kernel)
  local list = {}
  local places = { { "tests/c/kernels_cpu", "%.c$" }, { "tests/c", "heavy%.c$" }, { "tests/cuda_emu/ops", "%.cpp$" } }
  for _, place in ipairs(places) do
    local names = host.list(place[1])
    table.sort(names)
    for _, name in ipairs(names) do
      local path = place[1] .. "/" .. name
      local text = name:find(place[2]) and contents(path) or ""
      if text:find("kernels%->" .. kernel .. "%f[^%w_]") or text:find("RUN%(%s*" .. kernel .. ",") then
        list[#list + 1] = ("[%s](../../%s)"):format(name, path)
      end
    end
  end
  return table.concat(list, " ")
end

-- Op → the files of tests/ops that run it with finite differences, or, where a table of cases says nothing of it
-- (a copy in another shape or dtype), that call it.
local function checked_ops()
  local found, run, path = {}, op.run, nil
  op.run = function(name, names, reference, cases, o)
    if not (o and o.forward_only) then
      found[name] = found[name] or {}
      if found[name][#found[name]] ~= path then table.insert(found[name], path) end
    end
    return run(name, names, reference, cases, o)
  end
  local list = host.list "tests/ops"
  table.sort(list)
  for _, name in ipairs(list) do
    path = "tests/ops/" .. name
    dofile(path)
  end
  op.run = run
  for name in pairs(rules) do
    for _, file in ipairs(not found[name] and list or {}) do
      if contents("tests/ops/" .. file):find(":" .. name .. "[%( ]") then
        found[name] = found[name] or {}
        table.insert(found[name], "tests/ops/" .. file)
      end
    end
  end
  return found
end

-- ---- the tables ---------------------------------------------------------------------------------

local function sorted(set)
  local list = {}
  for key in pairs(set) do list[#list + 1] = key end
  table.sort(list)
  return list
end

-- `kept`: kernel → the cell of CUDA in the page as it is.
local function kernel_table(kept)
  local cpu, order = kernels_of "cpu"
  local has_cuda = pcall(tensor.device, "cuda")
  local cuda = has_cuda and kernels_of "cuda" or kept
  if not has_cuda then io.stderr:write "no CUDA device and no CFT_CUDA_MODULE: that column stays as it was\n" end
  local lines = { "| kernel | computes | cpu | cuda | gradient | tests |", "|---|---|---|---|---|---|" }
  for i, slot in ipairs(order) do
    local row = kernels[i] or {}
    if row[1] ~= slot then error(("the kernel %s is not explained in %s"):format(slot, arg[0]), 0) end
    local suites = suites_of(slot)
    if suites == "" then error("no suite names the kernel " .. slot, 0) end
    lines[#lines + 1] = ("| `%s` | %s | %s | %s | %s | %s |"):format(slot, row[2], cpu[slot], cuda[slot] or "", row[3],
      suites)
  end
  return table.concat(lines, "\n")
end

local function op_table()
  local checked = checked_ops()
  local lines = { "| op | computes | a method too | gradient | tests |", "|---|---|---|---|---|" }
  for _, name in ipairs(sorted(rules)) do
    local rule, suites = rules[name], {}
    if not formulas[name] then error(("the op %s is not explained in %s"):format(name, arg[0]), 0) end
    for i, path in ipairs(checked[name] or {}) do suites[i] = ("[%s](../../%s)"):format(path:match "[^/]+$", path) end
    if #suites == 0 then error("no suite has the op " .. name, 0) end
    lines[#lines + 1] = ("| `%s` | %s | %s | %s | %s |"):format(name, (formulas[name].formula:gsub("|", "\\|")), rule.method and "yes" or "",
      rule.differentiable and "of the first result" or "yes", table.concat(suites, " "))
  end
  return table.concat(lines, "\n")
end

local function printed(text)
  local kept = {}
  for slot, cell in text:gmatch "\n| `([%w_]+)` |[^\n|]*|[^\n|]*| ([^\n|]*) |" do kept[slot] = cell end
  local tables = { kernels = function() return kernel_table(kept) end, ops = op_table }
  return (text:gsub("(<!%-%- table: (%w+) %-%->\n).-(<!%-%- end of table %-%->)", function(first, which, last)
    return first .. tables[which]() .. "\n" .. last
  end))
end

local write = arg[1] == "--write"
local path = arg[write and 2 or 1]
local text = printed(contents(path))
if write then files.write(path, text) else io.write(text) end
