--- cftrun as its users meet it: a process with arguments, an environment, texts and an exit code.
-- @module tests.process

local M = {}

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

--- A file's bytes; an error where it cannot be read.
function M.contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

--- Start this cftrun once more, beside whatever else goes on.
-- @tab args its arguments; and `env`, a table of variables (false unsets one), and `input`, a text
-- @treturn function waits for its end and returns a table: `code`, `out`, `err`
-- @usage local a, b = process.begin { "--ranks", "2", "a.lua" }, process.begin { "--ranks", "2", "b.lua" }
-- print(a().code, b().code)
function M.begin(args)
  local words = { "env" }
  for name, value in pairs(args.env or {}) do
    if value == false then table.insert(words, 2, "-u " .. name)
    else words[#words + 1] = name .. "=" .. quoted(value) end
  end
  words[#words + 1] = '"$(readlink /proc/$PPID/exe)"'  -- the shell's parent is the program that asks
  for _, a in ipairs(args) do words[#words + 1] = quoted(a) end
  local folder = M.folder()
  M.write(folder .. "/in", args.input or "")
  local shell = io.popen(("cd . && %s <%s/in >%s/out 2>%s/err; echo $?"):format(
    table.concat(words, " "), folder, folder, folder))
  return function()
    local code = tonumber(shell:read "*a")
    shell:close()
    return { code = code, out = M.contents(folder .. "/out"), err = M.contents(folder .. "/err") }
  end
end

--- Run this cftrun once more.
-- @tab args as for `begin`
-- @treturn table `code`, `out`, `err`
-- @usage local r = process.cftrun { "-e", "print(1)", env = { CI = "true" } }
function M.cftrun(args) return M.begin(args)() end

--- Start a line of shell in a folder, in which `cftrun` is this one, beside whatever else goes on.
-- @string line
-- @string folder
-- @treturn function waits for its end and returns what it printed, errors too
function M.begin_shell(line, folder)
  local bin = M.folder()
  local shell = 'ln -s "$(readlink /proc/$PPID/exe)" %s/cftrun; cd %s && export PATH=%s:"$PATH" && { %s; } 2>&1'
  local pipe = io.popen(shell:format(bin, quoted(folder), bin, line))
  return function()
    local text = pipe:read "*a"
    pipe:close()
    return text
  end
end

--- Run a line of shell in a folder, in which `cftrun` is this one.
-- @string line
-- @string folder
-- @treturn string what it printed, errors too
function M.shell(line, folder) return M.begin_shell(line, folder)() end

--- Write a file.
-- @string path
-- @string text
-- @treturn string path
function M.write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

local made = {}

--- A new empty folder, removed with all in it when the runner ends.
-- @treturn string its path
function M.folder()
  local pipe = io.popen "mktemp -d"
  local path = pipe:read "*l"
  pipe:close()
  made[#made + 1] = path
  return path
end

-- The collector runs this when the program closes its state.
local at_end = newproxy(true)
getmetatable(at_end).__gc = function()
  for _, path in ipairs(made) do os.execute("rm -rf " .. quoted(path)) end
end
M.at_end = at_end

return M
