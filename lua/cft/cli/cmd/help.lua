--- explain a function, a module, an op or a setting; write the reference
--
--   cftrun help [NAME ...]        what `? NAME` says at the prompt; without a name, the modules
--   cftrun help --html FILE       all of it as one page with a search
--   cftrun help --types FILE      definitions for lua-language-server: put FILE into its workspace library
--
-- Exit code 1 where nothing is called so, or where FILE cannot be written.

local exit = require "cft.base.exit"
local help = require "cft.prompt.help"

local M = {}

local USAGE = "cftrun help [NAME ...]; cftrun help --html FILE; cftrun help --types FILE"
local writers = { ["--html"] = "html", ["--types"] = "types" }

local function write(path, text)
  require "cft.io.files".write(path, text)
  print(("written to %s"):format(path))
end

--- `cftrun help`.
-- @tab args
function M.run(args)
  if args[1] == "--help" or args[1] == "-h" then return print(USAGE) end
  local writer = writers[args[1]]
  if writer then
    if not args[2] or args[3] then exit.fail(exit.USAGE, "help: %s wants a file, and nothing else", args[1]) end
    return write(args[2], require "cft.prompt.export"[writer]())
  end
  if args[1] and args[1]:sub(1, 1) == "-" then
    exit.fail(exit.USAGE, "help: unknown option '%s'%s", args[1], require "cft.base.check".suggestion(args[1], writers))
  end
  if not args[1] then print(help.page()) end
  local code = exit.OK
  for i, name in ipairs(args) do
    if i > 1 then print() end
    local page, known = help.page(name)
    if not known then code = exit.FAILED end
    print(page)
  end
  return code
end

return M
