-- The tree as a graph: who requires whom in Lua, who includes whom in C. No circles, no step up, few files touch C.
--
-- `doors_today` lists what breaks a rule now, and what will end it. A line that is no longer true is an error: the
-- table only shrinks.

local expect = require "tests.expect"
local host = require "cft.host"
local process = require "tests.process"

local contents = process.contents

local function walk(folder, visit)
  for _, name in ipairs(host.list(folder)) do
    local path = folder .. "/" .. name
    if host.kind(path) == "folder" then walk(path, visit) else visit(path) end
  end
end

local function sorted(set)
  local list = {}
  for key in pairs(set) do list[#list + 1] = key end
  table.sort(list)
  return list
end

-- ---- graphs: node → set of nodes ----------------------------------------------------------------

-- The circles of a graph: of each set of nodes that reach each other, its nodes in order.
local function circles(graph)
  local number, low, stack, on, found, count = {}, {}, {}, {}, {}, 0
  local function visit(v)
    count = count + 1
    number[v], low[v], on[v] = count, count, true
    stack[#stack + 1] = v
    for w in pairs(graph[v] or {}) do
      if not number[w] then
        visit(w)
        low[v] = math.min(low[v], low[w])
      elseif on[w] then
        low[v] = math.min(low[v], number[w])
      end
    end
    if low[v] ~= number[v] then return end
    local circle = {}
    repeat
      local w = table.remove(stack)
      on[w] = nil
      circle[#circle + 1] = w
    until w == v
    table.sort(circle)
    if #circle > 1 or graph[v] and graph[v][v] then found[#found + 1] = table.concat(circle, " ") end
  end
  for _, v in ipairs(sorted(graph)) do
    if not number[v] then visit(v) end
  end
  return found
end

-- What is found is what the list of today says: no more, and no less.
local function only(found, today)
  local wrong, seen = {}, {}
  for _, what in ipairs(found) do
    if not today[what] then wrong[#wrong + 1] = what end
    seen[what] = true
  end
  for _, what in ipairs(sorted(today)) do
    if not seen[what] then wrong[#wrong + 1] = what .. " is no longer so; take it off the list" end
  end
  expect.same(wrong, {})
end

-- ---- Lua ----------------------------------------------------------------------------------------

-- Code without comments, so that an example in one is no edge.
local function code_of(path)
  return (("\n" .. contents(path)):gsub("\n%s*%-%-[^\n]*", "\n"):gsub("%s%-%- [^\n\"']*", ""))
end

local lua_files = {}  -- module → path below lua/cft
walk("lua/cft", function(path)
  local inside = path:match "^lua/cft/(.*)%.lua$"
  if inside then lua_files["cft." .. inside:gsub("/", "."):gsub("%.init$", "")] = inside end
end)
lua_files["cft.init"], lua_files.cft = nil, "init"

-- Every module that a text names in quotes, deferred or handed to a worker as it may be. Not what is found by its name
-- alone, as `"cft.cli.cmd." .. target`: such a folder is a list, and who looks there knows no file of it.
local function required(path)
  local set, code = {}, code_of(path)
  for name in code:gmatch "[\"'](cft%.[%w_.]*)[\"']" do
    if lua_files[name] then set[lua_files[name]] = true end
  end
  if code:find "require%s*%(?%s*[\"']cft[\"']" then set.init = true end
  set[path:match "^lua/cft/(.*)%.lua$"] = nil  -- a command that prints its own first lines
  return set
end

local requires = {}
for _, file in pairs(lua_files) do requires[file] = required("lua/cft/" .. file .. ".lua") end

local function lua_room(file) return file:match "^[^/]+" end

-- From the ground up. Folders of one layer know nothing of each other, so there is no circle of folders either.
local floors = {
  { "base" }, { "engine" }, { "ranks" }, { "grade", "io", "nn", "text" }, { "data" }, { "models", "samples" },
  { "generate", "train" }, { "demo", "plan", "report" }, { "eval", "serve" }, { "config" }, { "recipe" }, { "init" },
  { "prompt" }, { "cli" },
}
local floor_of = {}
for n, rooms in ipairs(floors) do
  for _, room in ipairs(rooms) do floor_of[room] = n end
end

-- Files of a folder, but where a file is one of a kind and the folder a list of them.
local MOST = 14
local lists = { models = true, ["eval/benchmarks"] = true, ["cli/cmd"] = true }

-- ---- C touched from Lua -------------------------------------------------------------------------

local function touches_c(path)
  local code = code_of(path)
  for _, sign in ipairs { "%f[%w_]C%.cft_", "%f[%w_]C%.CFT_", "%f[%w_]C%[", "ffi%.new", "ffi%.cast", "ffi%.copy",
                          "ffi%.fill", "ffi%.typeof", "ffi%.metatype", "ffi%.gc" } do
    if code:find(sign) then return true end
  end
  return false
end

-- Few files touch C; the others call these. All that these take and give is Lua's, or a tensor.
local doors = {
  base = { "json" },
  engine = { "ffi", "tensor", "kernels", "comm", "trace", "rates", "graph" },
  io = { "gguf", "hash", "journal", "safetensors", "save", "saver", "state", "statistics", "fetch/session" },
  ranks = { "heartbeat", "torchrun" },
  grade = { "init" },
  nn = { "inputs" },
  text = { "tokenizer" },
  data = { "open", "util/order", "parallel", "util/word_hash", "util/digest_table" },
  samples = { "batch", "mask", "index" },
  train = { "optim/init", "optim/adamw", "optim/lion" },
  eval = { "ifeval/language" },
  serve = { "door" },
  cli = { "bench/onednn", "bench/shares" },
}

local doors_today = {
  ["data/decontaminate"] = "word hashes are util/word_hash's",
  ["data/dedup"] = "word hashes are util/word_hash's",
}
for room, files in pairs(doors) do
  for _, file in ipairs(files) do doors_today[room .. "/" .. file] = "listed above" end
end

-- ---- C ------------------------------------------------------------------------------------------

local includes, system = {}, {}  -- file → what it includes: of ours, of the system's
for _, layer in ipairs { "kernels", "runtime" } do
  walk(layer, function(path)
    if path:find "%.[ch]$" or path:find "%.cuh?$" or path:find "%.cpp$" then includes[path], system[path] = {}, {} end
  end)
end
for path, set in pairs(includes) do
  local folder = path:match "^(.*)/"
  for kind, name in ("\n" .. contents(path)):gmatch "\n%s*#%s*include%s*([<\"])([^>\"]+)" do
    local found
    for _, place in ipairs { folder .. "/" .. name, "runtime/" .. name, "kernels/" .. name } do
      if includes[place] and not found then found = place end
    end
    if found then set[found] = true else system[path][name] = kind end
  end
end

-- A header beside the folders belongs to the folder of its name.
local headers = { cft_checkpoint = "checkpoint", cft_file = "util", cft_heartbeat = "comm", cft_rendezvous = "comm", cft_host = "lua", cft = "cdef", cdef = "cdef" }
local function c_room(file)
  local layer, folder = file:match "^(%w+)/(%w+)/"
  if layer == "kernels" then return "kernels/" .. folder end
  if folder then return folder end
  local name = file:match "^runtime/(.*)%.%w+$"
  return name and (headers[name] or name:match "^cft_(.*)$") or "kernels"
end

local c_floors = {
  { "kernels" }, { "kernels/cpu", "kernels/cuda", "kernels/gloo", "kernels/mpi" }, { "kernels/bench" }, { "util" }, { "batch", "checkpoint", "data", "grade", "net", "serve", "tensor", "trace" },
  { "ops", "tokenizer" }, { "comm", "optim" }, { "cdef" }, { "lua" },
}
local c_floor_of = {}
for n, rooms in ipairs(c_floors) do
  for _, room in ipairs(rooms) do c_floor_of[room] = n end
end

-- What a folder of runtime shows to others: headers beside the folders, util, and to those that work on a tensor's
-- memory the insides of one.
local shown = { ["kernels/cpu/measure.h"] = { tensor = true },  -- what `cftrun bench` asks of the CPU is in cft.h
                ["runtime/tensor/tensor_impl.h"] = { ops = true, comm = true },
                ["runtime/ops/ops_impl.h"] = { optim = true } }
local function is_shown(header, room)
  return header:find "^runtime/[%w_]+%.h$" or header:find "^runtime/util/" or header:find "^kernels/[%w_]+%.h$"
    or shown[header] and shown[header][room]
end

-- Does `a` stand above `b`, so that it may include it?
local function above(floors_of, a, b) return a == b or floors_of[a] > floors_of[b] end

return {
  { "a circle is found, and a graph without one has none", function()
    local g = { a = { b = true }, b = { c = true }, c = { a = true }, d = { d = true }, e = { a = true } }
    expect.same(circles(g), { "a b c", "d" })
    g.c.a, g.d.d = nil, nil
    expect.same(circles(g), {})
  end },
  { "Lua: every file is in a folder with a layer, every name that is required is there", function()
    for file in pairs(requires) do expect.truthy(floor_of[lua_room(file)], file .. " is in a folder with a layer") end
    local missing = {}
    for _, file in pairs(lua_files) do
      for name in code_of("lua/cft/" .. file .. ".lua"):gmatch "require%s*%(?%s*[\"'](cft%.[%w_.]*[%w_])[\"']" do
        local in_c = name == "cft.host" or name == "cft.worker" or name == "cft.json.core" or name == "cft.attach"
          or name == "cft.console"  -- of package.preload: the command line says who that is
        if not lua_files[name] and not in_c then missing[#missing + 1] = file .. ": " .. name end
      end
    end
    for name in code_of("lua/cft/init.lua"):gmatch "= \"(cft%.[%w_.]+)\"" do
      if not lua_files[name] then missing[#missing + 1] = "init: " .. name end
    end
    expect.same(missing, {})
  end },
  { "Lua: no folder requires one above it, or beside it", function()
    local found = {}
    for _, file in ipairs(sorted(requires)) do
      for _, other in ipairs(sorted(requires[file])) do
        if not above(floor_of, lua_room(file), lua_room(other)) then found[#found + 1] = file .. " -> " .. other end
      end
    end
    only(found, {})
  end },
  { "Lua: no circle", function() expect.same(circles(requires), {}) end },
  { "Lua: a folder fits on a screen", function()
    local count, found = {}, {}
    for file in pairs(requires) do
      local folder = file:match "^(.*)/" or ""
      count[folder] = (count[folder] or 0) + 1
    end
    for _, folder in ipairs(sorted(count)) do
      if count[folder] > MOST and not lists[folder] then found[#found + 1] = folder .. ": " .. count[folder] end
    end
    expect.same(found, {})
  end },
  { "docs/house.md has a line for every folder", function()
    local text, missing = contents "docs/house.md", {}
    local deep = { ["tests/golden"] = true, ["tests/c"] = true, ["tests/cuda_emu"] = true }
    local function look(folder)
      for _, name in ipairs(host.list(folder)) do
        local path = folder .. "/" .. name
        if host.kind(path) == "folder" then
          if not text:find("`" .. path .. "`", 1, true) then missing[#missing + 1] = path end
          if not deep[path] then look(path) end
        end
      end
    end
    for _, layer in ipairs { "lua/cft", "runtime", "kernels", "tests" } do look(layer) end
    for path in text:gmatch "`([%w_]+/[%w_/]+)`" do
      if host.kind(path) ~= "folder" then missing[#missing + 1] = path .. " is no folder" end
    end
    expect.same(missing, {})
  end },
  { "Lua: only the listed files touch C", function()
    local found = {}
    for _, file in ipairs(sorted(requires)) do
      if touches_c("lua/cft/" .. file .. ".lua") then found[#found + 1] = file end
    end
    only(found, doors_today)
  end },
  { "C: no folder includes what stands above it, or beside it, or is hidden in another", function()
    local found = {}
    for _, file in ipairs(sorted(includes)) do
      local room = c_room(file)
      expect.truthy(c_floor_of[room], file .. " is in a folder with a layer")
      for _, header in ipairs(sorted(includes[file])) do
        local other = c_room(header)
        local fits = room == other or above(c_floor_of, room, other) and is_shown(header, room)
        if not fits and room ~= "cdef" then found[#found + 1] = file .. " -> " .. header end
      end
    end
    expect.same(found, {})
  end },
  { "C: no circle", function() expect.same(circles(includes), {}) end },
  { "C: lua.h is for runtime/lua, CUDA's headers are for kernels/cuda", function()
    for path, names in pairs(system) do
      for name in pairs(names) do
        if name:find "^lua" or name == "lauxlib.h" then
          expect.truthy(path:find "^runtime/lua/", path .. ": " .. name)
        end
        if name:find "^cuda" or name:find "^cublas" or name:find "^nccl" or name:find "^cudnn" then
          expect.truthy(path:find "^kernels/cuda/", path .. ": " .. name)
        end
      end
    end
  end },
}
