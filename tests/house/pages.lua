-- Pages that list what the program has: commands, exit codes, signals, ops, libraries, messages. Each is compared with
-- the program, its sources, or what the linker says.

local exit = require "cft.base.exit"
local expect = require "tests.expect"
local host = require "cft.host"
local process = require "tests.process"

local contents = process.contents

local function walk(folder, visit)
  for _, name in ipairs(host.list(folder) or {}) do
    local path = folder .. "/" .. name
    if host.kind(path) == "folder" then walk(path, visit) else visit(path) end
  end
end

local function output_of(command)
  local pipe = io.popen(command)
  local text = pipe:read "*a"
  pipe:close()
  return text
end

local function section(path, title)
  local text = contents(path):match("\n## " .. title .. "\n(.-)\n## ")
  return text or error(("%s has no section %s"):format(path, title), 0)
end

-- Sources whose texts are one line each: neighbouring strings are joined, as compilers do it.
local function sources_of_messages()
  local list = {}
  local function add(path)
    if not (path:find "%.lua$" or path:find "%.[ch]$" or path:find "%.cu$" or path:find "%.cpp$") then return end
    local text = contents(path):gsub('"%s*%.%.%s*"', ""):gsub('"%s*\n%s*"', ""):gsub('\\"', '"')
    list[#list + 1] = text
  end
  for _, layer in ipairs { "kernels", "lua", "runtime" } do walk(layer, add) end
  return list
end

-- The fixed parts of a message: what is not between < and >, and says something.
local function parts_of(message)
  local parts = {}
  for part in (message .. "<>"):gmatch "(.-)<[^<>]*>" do
    part = part:gsub("^[%s:]+", ""):gsub("[%s:]+$", "")
    if part:find "%a%a%a" then parts[#parts + 1] = part end
  end
  return parts
end

local function has_all(text, parts)
  for _, part in ipairs(parts) do
    if not text:find(part, 1, true) then return false end
  end
  return true
end

-- The folder that this cftrun lies in.
local function build_folder() return output_of "readlink /proc/$PPID/exe":match "^(.*)/" end

return {
  { "docs/cli.md has every command, in the program's words", function()
    local help = process.cftrun({ "--help" }).out:match "\nCommands\n(.-)\n\n"
    local told, real = {}, {}
    for name, words in contents "docs/cli.md":match "| command |(.-)\n\n":gmatch "\n| `(%w+)` | ([^|]*) |" do
      told[name] = words
    end
    for name, words in (help .. "\n"):gmatch "  (%w+) +([^\n]*)\n" do real[name] = words end
    expect.same(told, real)
    expect.truthy(real.fetch and real.data, "commands were found")
  end },
  { "docs/cli.md and --help have every exit code", function()
    local wanted, told, helped = {}, {}, {}
    for name, code in pairs(exit) do
      if type(code) == "number" then wanted[tostring(code)] = name end
    end
    for code, name in section("docs/cli.md", "Exit codes and signals"):gmatch "\n| (%d+) | `([%u_]+)` |" do
      told[code] = name
    end
    expect.same(told, wanted)
    for code in process.cftrun({ "--help" }).out:match "\nExit codes\n(.-)\n\n":gmatch "%f[^\n%z]  (%d+) " do
      helped[code] = wanted[code]
    end
    expect.same(helped, wanted)
  end },
  { "docs/messages.md has a section for every exit code but 0", function()
    local wanted, told = {}, {}
    for name, code in pairs(exit) do
      if type(code) == "number" and code ~= exit.OK then wanted[code] = true end
    end
    for code in contents "docs/messages.md":gmatch "\n## (%d+): " do told[tonumber(code)] = true end
    expect.same(told, wanted)
  end },
  { "docs/cli.md has every signal that the program takes", function()
    local told, taken = {}, {}
    for name in section("docs/cli.md", "Exit codes and signals"):gmatch "\n| `(SIG%u+)` |" do told[name] = true end
    walk("runtime", function(path)
      if not path:find "%.c$" or path:find "worker%.c$" then return end  -- a worker has its parent's
      for _, how in ipairs { "sigaction%((SIG%u+),", "install%((SIG%u+)," } do
        for name in contents(path):gmatch(how) do taken[name] = true end
      end
    end)
    expect.same(told, taken)
    expect.truthy(taken.SIGINT, "signals were found")
  end },
  { "the manual page has every section of docs/cli.md, and groff takes it", function()
    local page = process.cftrun({ "scripts/print_man.lua" }).out
    for title in contents "docs/cli.md":gmatch "\n## ([^\n]*)" do
      expect.truthy(page:find("\n.SH " .. title:gsub("`([^`]*)`", "\\fB%1\\fR"):gsub("%-", "\\-") .. "\n", 1, true), title)
    end
    local path = process.folder() .. "/cftrun.1"
    process.write(path, page)
    expect.same(output_of(("groff -ww -b -man -Tutf8 %s 2>&1 >/dev/null"):format(path)), "")
  end },
  { "docs/ops/README.md is what scripts/print_ops.lua prints", function()
    local emulated = build_folder() .. "/libcft_cuda_emu.so"
    local r = process.cftrun { "scripts/print_ops.lua", "docs/ops/README.md",
                               env = { CFT_CACHE = "", CFT_CUDA_MODULE = host.kind(emulated) and emulated or "none" } }
    expect.same(r.code, 0, r.err)
    if r.out ~= contents "docs/ops/README.md" then
      local now = process.write(process.folder() .. "/README.md", r.out)
      error("docs/ops/README.md is not what scripts/print_ops.lua prints:\n"
            .. output_of("diff docs/ops/README.md " .. now), 0)
    end
  end },
  { "docs/licences.md has every library that is linked", function()
    local page, folder, unknown, count = contents "docs/licences.md", build_folder(), {}, 0
    local function look(name, by)
      count = count + 1
      if name:find "^ld%-linux" then return end  -- one name a processor
      if not page:find("`" .. name .. "`", 1, true) then unknown[#unknown + 1] = name .. ", of " .. by end
    end
    for name in output_of("ldd " .. folder .. "/cftrun"):gmatch "\t/?([^%s]+) [=%(]" do
      look(name:match "[^/]+$", "cftrun")
    end
    for _, module in ipairs(host.list(folder)) do
      if module == "cftrun" or module:find "^libcft_.*%.so$" and not module:find "_emu" then  -- those serve tests
        local headers = output_of(("readelf -d %s/%s"):format(folder, module))
        for name in headers:gmatch "%(NEEDED%)[^%[]*%[([^%]]+)%]" do look(name, module) end
      end
    end
    expect.same(unknown, {})
    expect.truthy(count > 20, "libraries were found")
  end },
  { "docs/licences.md has every library that is opened", function()
    local opened, unknown = section("docs/licences.md", "Opened when needed"), {}
    local found = {}
    for _, text in ipairs(sources_of_messages()) do
      for name in text:gmatch '"(lib[%w_]+)%.so' do found[name] = true end
    end
    for name in pairs(found) do
      if not opened:find("`" .. name .. ".so", 1, true) then unknown[#unknown + 1] = name end
    end
    expect.same(unknown, {})
    expect.truthy(found.libcurl and found.libnccl, "libraries were found")
  end },
  { "no user is sent to the data of cft's own tests", function()
    local found = {}
    local function look(path)
      local text = contents(path)
      if text:find("shared/data", 1, true) or text:find("CFT_SHARED_DATA", 1, true) then found[#found + 1] = path end
    end
    look "README.md"
    for _, folder in ipairs { "docs", "lua", "recipes", "runtime", "kernels" } do walk(folder, look) end
    for _, args in ipairs { { "--help" }, { "bench", "--help" }, { "data", "--help" }, { "fetch", "--help" } } do
      if process.cftrun(args).out:find("shared/data", 1, true) then found[#found + 1] = table.concat(args, " ") end
    end
    expect.same(found, {})
  end },
  { "guides leave figures of one machine to docs/performance.md", function()
    local found = {}
    walk("docs", function(path)
      if not path:find "%.md$" or path:find "performance%.md$" or path:find "gpu%-report%.md$" then return end
      local text = contents(path):gsub("%s+", " ")
      for _, word in ipairs { "Xeon", "cores? of a", "%f[%w]two cores", "that other work", "busy server" } do
        if text:find(word) then found[#found + 1] = path .. ": " .. word end
      end
    end)
    expect.same(found, {})
  end },
  { "times of recipes are those of recipes/README.md, where machine and date stand", function()
    local table_of, times = contents "recipes/README.md", {}
    expect.match(table_of, "All times here: two cores of [^\n]*%d%d%d%d%-%d%d%-%d%d")
    for recipe, seconds in table_of:gmatch "\n| `([%w_]+%.lua)` |[^\n]* (%d+) s |" do times[recipe] = seconds end
    for command, seconds in table_of:gmatch "\n| `cftrun (recipes/[^`]+)` |[^\n]* (%d+) s |" do times[command] = seconds end
    local found, count = {}, 0
    for command, seconds in contents "README.md":gmatch "\n%./run%.sh (recipes/[^\n#]-) +#[^\n]-(%d+) seconds" do
      local wanted = times[command] or times[command:match "^recipes/(.*)$"]
      if wanted ~= seconds then found[#found + 1] = ("README.md: %s: %s s, not %s"):format(command, seconds, wanted) end
      count = count + 1
    end
    for _, name in ipairs(host.list "recipes") do
      local seconds = name:find "%.lua$" and contents("recipes/" .. name):match "^[^\n]*\n[^\n]* (%d+) seconds"
      if seconds and times[name] ~= seconds then
        found[#found + 1] = ("recipes/%s: %s s, not %s"):format(name, seconds, times[name])
      end
      count = count + (seconds and 1 or 0)
    end
    expect.same({ found, count }, { {}, 3 })
  end },
  { "CHANGES.md sends to modules that are there", function()
    local cft, count = require "cft", 0
    for was, public, now in contents "CHANGES.md":gmatch "\n| `([%w_.]+)` | ?`?([%w_.]*)`? ?| `([%w_.]+)` |" do
      was, public = was:gsub("NAME", "qwen"), public:gsub("NAME", "qwen")
      expect.truthy(not host.source(was) and not host.source(was .. ".init"), was .. " is no module any more")
      local module, value = require(now), cft
      for name in public:gsub("^cft", ""):gmatch "[%w_]+" do value = value[name] end
      expect.truthy(public == "" or value == module or public:find "template%.", public .. " is " .. now)
      expect.truthy(value ~= nil, public .. " is there")
      count = count + 1
    end
    expect.truthy(count > 30, "modules were found")
  end },
  { "docs/messages.md quotes messages that are in the sources", function()
    local sources, unknown, count = sources_of_messages(), {}, 0
    for block in contents "docs/messages.md":gmatch "\n```message\n(.-)\n```" do
      for message in block:gmatch "[^\n]+" do
        local parts, found = parts_of(message), false
        for _, text in ipairs(sources) do found = found or #parts > 0 and has_all(text, parts) end
        if not found then unknown[#unknown + 1] = message end
        count = count + 1
      end
    end
    expect.same(unknown, {})
    expect.truthy(count > 50, "messages were found")
  end },
  { "a message that nobody prints is found out", function()
    expect.same(parts_of "<file>: <N> of <N> are odd; say <key>=1", { "are odd; say" })
    expect.truthy(has_all("x are odd; say %s=1", { "are odd; say" }), "in a text that has it")
    expect.truthy(not has_all("x are odd; say %s=1", { "are odd; say", "twice" }), "in one that lacks a part")
  end },
}
