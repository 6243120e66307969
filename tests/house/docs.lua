-- Documentation that runs. Every block marked `lua run`, in which lines that begin with "> " are typed at the prompt,
-- and every `@usage` of lua/cft. What a line prints is compared with the comment behind it or below it:
--
--   print(1 + 1, "a")   --> 2   a
--
-- White space counts once, and "..." is anything. Files and pages that a text names must be there.
--
-- A page may have files and commands too: a block marked `LANG file NAME` is a file, and in one marked `sh run` a line
-- that begins with "$ " is a command, the lines below it what it prints. All of a page happens in one folder.

local cft = require "cft"
local ffi = require "ffi"
local examples = require "cft.prompt.examples"
local expect = require "tests.expect"
local formulas = require "cft.engine.rules.formulas"
local host = require "cft.host"
local process = require "tests.process"
local prompt_line = require "cft.prompt.line"
local repl = require "cft.prompt"

ffi.cdef "int dup(int); int dup2(int, int); int open(const char *, int, ...); int close(int);"

-- ---- what runs ----------------------------------------------------------------------------------

-- A block: `path`, `line` (of its first line), `text` (a list of lines).
local function blocks_of_page(path)
  local list, block, line_number = {}, nil, 0
  for line in io.lines(path) do
    line_number = line_number + 1
    if not block and line:match "^```lua run" then
      block = { path = path, line = line_number + 1, text = {} }
    elseif block and line:match "^```" then
      list[#list + 1], block = block, nil
    elseif block then
      table.insert(block.text, line)
    end
  end
  return list
end

local function blocks_of_source(path)
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = line end
  local list = {}
  for i, text in ipairs(examples.blocks(lines)) do list[i] = { path = path, line = text.at, text = text, usage = true } end
  return list
end

-- Examples that want what is not here are compiled only.
local elsewhere = {
  ["lua/cft/engine/comm.lua"] = "a GPU",
  ["lua/cft/io/fetch/init.lua"] = "the Hub",
  ["lua/cft/io/gguf.lua"] = "a GGUF file",
  ["lua/cft/models/gguf.lua"] = "a GGUF file",
}
local function is_elsewhere(block)
  return block.usage and elsewhere[block.path]
end

-- ---- what an example finds at hand --------------------------------------------------------------

-- What is asked of `cft` is loaded; an example of the reference has made the names that it uses, see
-- lua/cft/prompt/examples.lua, and a page's block finds some at hand.
local things = {}
for _, name in ipairs { "tok", "samples", "source", "model" } do
  things[name] = function(env)
    for _, line in ipairs(examples.prelude { "f(" .. name .. ")" }) do setfenv(assert(loadstring(line)), env)() end
    return rawget(env, name)
  end
end

local function environment(block, print)
  local quiet = setmetatable({ tmpname = function() return process.folder() .. "/name" end }, { __index = os })
  local made = {}  -- names, also of what is nil
  local env = setmetatable({ cft = cft, print = print, os = quiet }, { __newindex = function(t, name, value)
    made[name] = true
    rawset(t, name, value)
  end, __index = function(t, name)
    if made[name] then return nil end
    if not block.usage and things[name] then return things[name](t) end
    return _G[name]
  end })
  for name, command in pairs(repl.commands) do env[name] = command end
  for _, line in ipairs(block.usage and examples.prelude(block.text) or {}) do setfenv(assert(loadstring(line)), env)() end
  return env
end

-- ---- running ------------------------------------------------------------------------------------

local function compile(text, block, first)
  local chunk, why = loadstring(("\n"):rep(block.line + first - 2) .. text, "=" .. block.path)
  if not chunk then error(why, 0) end
  return chunk
end

-- A list of { text, line }: as the prompt does, a line, or as many as make a whole, and the value of an expression is
-- shown; the block of a page as a whole where it has locals, which live as long as it does, or is not typed.
local function statements_of(block)
  local lines, is_prompt = {}, block.usage
  for i, line in ipairs(block.text) do
    is_prompt = is_prompt or line:find "^> ?" ~= nil
    lines[i] = line:gsub("^> ?", "")
  end
  local whole = table.concat(lines, "\n")
  if not block.usage and whole:find "local " or not is_prompt then return { { whole, 1 } } end
  local list, pending, first = {}, "", 1
  for i, line in ipairs(lines) do
    if pending == "" then first = i end
    pending = pending == "" and line or pending .. "\n" .. line
    local lua = prompt_line.rewrite(pending)
    if loadstring("return " .. lua) then lua = "return " .. lua end
    if loadstring(lua) then
      list[#list + 1] = { lua, first }
      pending = ""
    end
  end
  if pending:match "%S" then error(("%s:%d: the block is not complete"):format(block.path, block.line), 0) end
  return list
end

-- What should have been printed: line of the block → text.
local function expectations(block)
  local list = {}
  for i, line in ipairs(block.text) do
    local text = line:match "%-%->%s*(.*)$"
    if text then list[#list + 1] = { line = i, text = text } end
  end
  return list
end

-- One text for what may be laid out in several ways; a line break may be written \n.
local function plain(text) return (text:gsub("\\n", " "):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")) end

local function fits(got, wanted)
  local pattern = plain(wanted):gsub("%p", "%%%0"):gsub("%%%.%%%.%%%.", ".*")
  return plain(got):find("^" .. pattern .. "$") ~= nil
end

-- Each expectation is of what was printed last before it, by one line.
local function compare(block, printed)
  local from = 0
  for _, want in ipairs(expectations(block)) do
    local at
    for line = from + 1, want.line do at = printed[line] and line or at end
    local where = ("%s:%d: "):format(block.path, block.line + want.line - 1)
    if not at then error(where .. "nothing was printed, expected " .. want.text, 0) end
    local got = table.concat(printed[at], "\n")
    if not fits(got, want.text) then error(("%sprinted  %s\n  expected %s"):format(where, got, want.text), 0) end
    from = want.line
  end
end

-- What a run in an example says of itself is nobody's to read here, and its settings have no command line.
-- @treturn function that ends it
local function silenced()
  local words, nowhere, stdout = arg, ffi.C.open("/dev/null", 1), nil
  rawset(_G, "arg", { [0] = "example" })
  io.stdout:flush()
  stdout = ffi.C.dup(1)
  ffi.C.dup2(nowhere, 1)
  return function()
    io.stdout:flush()
    ffi.C.dup2(stdout, 1)
    ffi.C.close(stdout)
    ffi.C.close(nowhere)
    rawset(_G, "arg", words)
  end
end

local function all_of(...) return { n = select("#", ...), ... } end

local function run(block)
  local printed, now = {}, 1
  local function add(text, line)
    printed[line] = printed[line] or {}
    table.insert(printed[line], text)
  end
  local function print(...)
    local texts = {}
    for i = 1, select("#", ...) do texts[i] = tostring((select(i, ...))) end
    local caller = debug.getinfo(2, "Sl")  -- a tail call leaves no trace of its line
    add(table.concat(texts, "\t"), caller.source == "=" .. block.path and caller.currentline - block.line + 1 or now)
  end
  local restore, env = block.usage and silenced() or function() end, nil
  local ok, why = pcall(function()
    if is_elsewhere(block) then return compile(table.concat(block.text, "\n"), block, 1) end
    env = environment(block, print)
    for _, statement in ipairs(statements_of(block)) do
      now = statement[2]
      local chunk = compile(statement[1], block, now)
      local values = all_of(setfenv(chunk, env)())
      for i = 1, values.n do add(repl.text(values[i]), now) end
    end
  end)
  restore()
  if not ok then error(why, 0) end
  if not env then return end
  compare(block, printed)
  for name in pairs(env) do env[name] = nil end  -- an op that was defined holds on to its globals
end

-- ---- files and commands of a page ---------------------------------------------------------------

-- In order: `{ file, text }` and `{ command, wanted, where }`.
local function console_of_page(path)
  local steps, block, line_number = {}, nil, 0
  for line in io.lines(path) do
    line_number = line_number + 1
    if not block then
      local file = line:match "^```%a+ file (%S+)$"
      if file or line == "```sh run" then block = { file = file, text = "" } end
      if file then steps[#steps + 1] = block end
    elseif line == "```" then
      block = nil
    elseif block.file then
      block.text = block.text .. line .. "\n"
    elseif line:find "^%$ " then
      steps[#steps + 1] = { command = line:sub(3), wanted = "", where = ("%s:%d: "):format(path, line_number) }
    else
      steps[#steps].wanted = steps[#steps].wanted .. line .. "\n"
    end
  end
  return steps
end

local function run_console(steps)
  local folder = process.folder()
  for _, step in ipairs(steps) do
    if step.file then
      process.write(folder .. "/" .. step.file, step.text)
    else
      local got = process.shell(step.command, folder)
      if not fits(got, step.wanted) then
        error(("%s%s\n  printed %s\n  expected %s"):format(step.where, step.command, got, step.wanted), 0)
      end
    end
  end
end

-- ---- what is named ------------------------------------------------------------------------------

local function walk(folder, visit)
  for _, name in ipairs(host.list(folder) or {}) do
    local path = folder .. "/" .. name
    if host.kind(path) == "folder" then walk(path, visit) else visit(path) end
  end
end

local pages, sources = { "README.md", "CHANGES.md", "checkpoints/README.md", "recipes/README.md" }, {}
walk("docs", function(path) if path:find "%.md$" then pages[#pages + 1] = path end end)
walk("lua/cft", function(path) if path:find "%.lua$" then sources[#sources + 1] = path end end)

-- A path of this repository in a text. One with a placeholder (NAME, *, <...>) or of a page to come does not count.
local function missing_in(path, text, missing)
  local function look(name)
    if name:find "^recipes/mine" then return end
    name = name:gsub("[%.,:;]+$", ""):gsub("#.*$", "")
    if name == "" or name:find "[*<{%%]" or name:find "%u%u" and not name:find "README" then return end
    local folder = path:match "^(.*/)" or ""
    if not host.kind(name) and not host.kind(folder .. name) then missing[path .. ": " .. name] = true end
  end
  for _, top in ipairs { "docs", "lua/cft", "runtime", "kernels", "tests", "recipes", "scripts" } do
    for name in text:gmatch("%f[%w/%.]" .. top:gsub("/", "%%/") .. "/[%w_/%.%-*{<%%]+") do look(name) end
  end
  if path:find "%.md$" then
    for name in text:gmatch "%]%(([^)%s]+)%)" do
      if not name:find "^%a+:" then look(name) end
    end
  end
end

local tests = {
  { "every file and page that is named is there", function()
    local missing = {}
    local function look(path)
      local file = assert(io.open(path, "rb"))
      missing_in(path, file:read "*a", missing)
      file:close()
    end
    for _, path in ipairs(pages) do look(path) end
    for _, path in ipairs(sources) do look(path) end
    for _, layer in ipairs { "kernels", "runtime" } do
      walk(layer, function(path) if path:find "%.[ch]u?h?$" or path:find "%.cpp$" then look(path) end end)
    end
    local list = {}
    for what in pairs(missing) do list[#list + 1] = what end
    table.sort(list)
    expect.same(list, {})
  end },
  { "a block fails when it lies", function()
    local function of(...) return { path = "page", line = 10, text = { ... } } end
    run(of("print(1 + 1, 'a b')   --> 2   a b", "print 'a\\n  b'   --> a\\nb", "print(math.pi)", "--> 3.14..."))
    run(of("> 1 + 1   --> 2", "> x = 3", "> x, 'a'", "--> 3 \"a\""))
    run(of("for i = 1, 3 do print(i) end   --> 1 2 3", "print(4) --> 4"))
    expect.raises("^page:11: printed  3\n  expected 4$", run, of("print(2)   --> 2", "print(1 + 2)   --> 4"))
    expect.raises("^page:10: printed  22\n  expected 2$", run, of "print(22)   --> 2")
    expect.raises("^page:11: nothing was printed, expected 2$", run, of("print(2) --> 2", "local x = 2   --> 2"))
    expect.raises("^page:10: printed  4\n  expected 3$", run, of "> 2 + 2   --> 3")
    expect.raises("^page:11: .*wrong", run, of("print(1)   --> 1", "error 'wrong'"))
    expect.raises("^page:10: the block is not complete", run, of "> f(")
    expect.raises("page:12: .*unexpected symbol", run, of("local x", "", "x = )"))
  end },
}

tests[#tests + 1] = { "a command's output fails when it lies", function()
  local function of(command, wanted) return { { command = command, wanted = wanted, where = "page:7: " } } end
  run_console { { file = "a.txt", text = "one\n" }, of("cat a.txt; false || echo $?", "one\n1\n")[1] }
  run_console(of("cftrun --version", "cft ...\n"))
  expect.raises("^page:7: echo 2\n  printed 2\n\n  expected 3\n$", run_console, of("echo 2", "3\n"))
end }
for _, path in ipairs(pages) do
  local steps = console_of_page(path)
  if #steps > 0 then tests[#tests + 1] = { path .. ", its files and commands", function() run_console(steps) end } end
end

local function add(block)
  tests[#tests + 1] = { ("%s, line %d"):format(block.path, block.line), function() run(block) end }
end
for _, path in ipairs(pages) do
  for _, block in ipairs(blocks_of_page(path)) do add(block) end
end
for _, path in ipairs(sources) do
  for _, block in ipairs(blocks_of_source(path)) do add(block) end
end
local ops = {}
for name, op in pairs(formulas) do
  if op.example then ops[#ops + 1] = { path = "cft.ops." .. name, line = 1, text = op.example, usage = true } end
end
tests[#tests + 1] = { "examples of ops", function() for _, block in ipairs(ops) do run(block) end end }
return tests
