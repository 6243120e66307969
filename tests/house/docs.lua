-- Every block of the documentation that is marked `lua run` runs; lines that begin with "> " are typed at
-- the prompt, where globals are allowed.

local host = require "cft.host"

local function blocks_of(path)
  local list, block, line_number = {}, nil, 0
  for line in io.lines(path) do
    line_number = line_number + 1
    if not block and line:match "^```lua run" then
      block = { line = line_number + 1, text = {} }
    elseif block and line:match "^```" then
      list[#list + 1] = block
      block = nil
    elseif block then
      table.insert(block.text, (line:gsub("^> ?", "")))
    end
  end
  return list
end

-- At the prompt an expression alone is printed.
local function compile(text, name, env)
  local chunk, why = loadstring(text, "=" .. name)
  if not chunk then error(why, 0) end
  return setfenv(chunk, env)
end

local function run(block, name, env)
  local statements, pending = {}, ""
  for _, line in ipairs(block.text) do  -- as the prompt does: a line, or as many as make a whole
    pending = pending == "" and line or pending .. "\n" .. line
    if loadstring("return " .. pending) then pending = "return " .. pending end
    if loadstring(pending) then
      statements[#statements + 1] = pending
      pending = ""
    end
  end
  if pending:match "%S" then error(name .. ": the block is not complete", 0) end
  -- Locals live as long as the block, so statements that have any are run in one piece.
  local whole = table.concat(block.text, "\n")
  if whole:find "local " then return compile(whole, name, env)() end
  for _, s in ipairs(statements) do compile(s, name, env)() end
end

local tests = {}
local function add(path)
  for _, block in ipairs(blocks_of(path)) do
    tests[#tests + 1] = { ("%s, line %d"):format(path, block.line), function()
      local env = setmetatable({ cft = require "cft", print = function() end }, { __index = _G })
      run(block, ("%s:%d"):format(path, block.line), env)
      for name in pairs(env) do env[name] = nil end  -- an op that was defined holds on to its globals
    end }
  end
end

add "README.md"
for _, folder in ipairs { "docs", "docs/ops" } do
  for _, name in ipairs(host.list(folder) or {}) do
    if name:match "%.md$" then add(folder .. "/" .. name) end
  end
end
return tests
