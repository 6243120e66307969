-- The program: arguments, exit codes, messages, embedded sources, Ctrl-C. tests/c/repl.c has the
-- prompt on a terminal.
local exit = require "cft.base.exit"
local expect = require "tests.expect"
local host = require "cft.host"
local process = require "tests.process"

local run = process.cftrun

local function script(text) return process.write(process.folder() .. "/s.lua", text) end

-- A run ends with this code, this on stdout, and this pattern on stderr ("" for nothing).
local function ends(r, code, out, err)
  expect.same({ code = r.code, out = r.out, err = err == "" and r.err or "" }, { code = code, out = out, err = "" })
  expect.match(r.err, err)
end

local function refuses(message, ...)
  local args = { ... }
  return { "refuses " .. table.concat(args, " "), function() ends(run(args), 2, "", "^cftrun: " .. message .. "\n$") end }
end

return {
  { "--version", function()
    local r = run { "--version" }
    expect.same(r.code, 0)
    expect.match(r.out, "^cft %d+%.%d+%.%d+, LuaJIT 2%.1.*\n$")
  end },
  { "--help names every exit code and option", function()
    local r = run { "--help" }
    expect.same(r.code, 0)
    for name, code in pairs(exit) do
      if type(code) == "number" then expect.match(r.out, "\n  " .. code .. " +%S") end
    end
    for option in pairs(require("cft.config").flags) do
      expect.match(r.out, "\n  " .. option:gsub("%-", "%%-") .. " ")
    end
  end },
  { "docs/cli.md has the same codes, keys and options", function()
    local file = assert(io.open "docs/cli.md")
    local text = file:read "*a"
    file:close()
    local function has(...)
      local row = "\n| " .. table.concat({ ... }, " | ") .. " |"
      expect.truthy(text:find(row, 1, true), "a row like" .. row)
    end
    for name, code in pairs(exit) do
      if type(code) == "number" then expect.match(text, "\n| " .. code .. " | %S") end
    end
    local config = require "cft.config"
    for _, list in ipairs { config.common, config.further } do
      for _, row in ipairs(list) do
        local name, default = row[1], row[2][2]
        local shown = default == nil and "" or tostring(default):gsub("e%-0", "e-"):gsub("%p", "%%%0")
        expect.match(text, ("\n| `%s` | %s *| %%S"):format(name, shown))
      end
    end
    for option, flag in pairs(config.flags) do
      has("`" .. option .. (flag.takes and " " .. flag.takes or "") .. "`", flag.help)
    end
  end },

  { "tables of settings in the docs are as declared", function()
    for _, path in ipairs { "docs/cli.md", "docs/recipes.md" } do
      local r, file = run { "scripts/print_settings.lua", path }, assert(io.open(path, "rb"))
      expect.same({ r.code, r.err }, { 0, "" })
      expect.truthy(r.out:find("| `", 1, true) and r.out == file:read "*a",
                    path .. " is not what `cftrun scripts/print_settings.lua --write " .. path .. "` writes")
      file:close()
    end
  end },

  refuses("unknown option '%-%-hlep'; did you mean '%-%-help'%?", "--hlep"),
  refuses("unknown option '%-%-dryrun'; did you mean '%-%-dry%-run'%?", "--dryrun", "x.lua"),
  refuses("%-e wants a line of Lua behind it", "-e"),
  refuses("%-%-device wants D behind it", "--device"),
  refuses("%-%-demo wants a recipe", "--demo", "--preview", "3"),
  refuses("%-%-preview wants a recipe", "--device", "cpu", "--preview", "3"),
  refuses("%-%-allow%-change wants KEY%[,KEY%] behind it", "--allow-change"),
  refuses("device=gpu: 'device' must be cpu, cuda, cuda:N or auto, got 'gpu'", "--device", "gpu"),
  refuses("no recipe and no command 'bnech'[^\n]*", "bnech"),
  refuses("no recipe and no command 'hello'; did you mean 'recipes/hello.lua'%?", "hello"),
  refuses("no recipe tests/runn.lua; did you mean 'tests/run.lua'%?", "tests/runn.lua"),
  refuses("no recipe no/such.lua", "no/such.lua"),
  refuses("tests/base is a folder, not a recipe", "tests/base"),

  { "what the device has to say is on stderr where nobody asked for it", function()
    local said = "CFT_ISA is ignored: isa: 'sse9' is not known; wanted base, avx2, avx512, avx512bf16 or amx"
    local env, use = { CFT_ISA = "sse9" }, "cft.tensor.ones({ 2 })"
    ends(run { "-e", "print(require('cft')" .. use:sub(4) .. ":dim(0))", env = env }, 0, "2\n",
         "^cftrun: " .. said:gsub("%p", "%%%0") .. "\n$")
    local r = run { input = use .. "; print 'first'\nprint 'second'\n", env = env }
    expect.same({ r.out, r.err }, { "first\nsecond\n", "cftrun: " .. said .. "\n" })
    r = run { "-e", "print(unpack(require('cft.engine.tensor').notes()))", env = env }
    expect.same({ r.out, r.err }, { "\n", "" })  -- the device was not opened
    r = run { "-e", "require('cft').tensor.ones({ 2 }); print(unpack(require('cft.engine.tensor').notes()))", env = env }
    expect.same({ r.out, r.err }, { said .. "\n", "" })
  end },

  { "a step's line comes after what was said meanwhile", function()
    local r = run { "-e", [[local log = require("cft.base.log").open()
      log:progress({ step = 1, loss = 1, lr = 1, grad_norm = 1, tokens_per_s = 1, seconds_a_step = 1, notes = { "100% so", "a" } }, 1)]] }
    expect.match(r.out, "^100%% so\na\nstep 1/1 ")
  end },

  { "-e runs a line with its arguments", function()
    ends(run { "-e", "print(#arg, arg[1], ...)", "a b", "--demo" }, 0, "2\ta b\ta b\t--demo\n", "")
  end },
  { "-e: errors, in the text and when it runs", function()
    ends(run { "-e", "x = = 1" }, 1, "", "^cftrun: %(command line%):1: unexpected symbol near '='\n$")
    ends(run { "-e", "error('no')" }, 1, "", "^cftrun: %(command line%):1: no\n$")
  end },
  { "a script: arguments, and the line of an error", function()
    ends(run { script "print(arg[0]:match '[^/]*$', ...)", "x", "y=1" }, 0, "s.lua\tx\ty=1\n", "")
    local path = script "local a\n\nprint(a.b)"
    ends(run { path }, 1, "", "^cftrun: .*s%.lua:3: attempt to index local 'a' %(a nil value%)\n$")
    ends(run { script "x = = 1" }, 1, "", "s%.lua:1: unexpected symbol near '='\n$")
  end },
  { "a traceback when it is asked for", function()
    local path = script "local function inner() error 'deep' end\nlocal function outer() inner() end\nouter()"
    local r = run { path, env = { CFT_TRACEBACK = "1" } }
    expect.same(r.code, 1)
    expect.match(r.err, "s%.lua:1: deep\nstack traceback:.*in function 'inner'.*in function 'outer'")
    expect.same(run({ path }).err:find "traceback", nil)
  end },
  { "stray globals are errors in scripts, not with -e", function()
    ends(run { script "local function f()\n  count = 1\nend\nf()" }, 1, "",
         "s%.lua:2: assignment to undeclared variable 'count'; say 'local count'\n$")
    ends(run { script "print(1)\nprnt(2)" }, 1, "1\n", "s%.lua:2: undeclared variable 'prnt'; did you mean 'print'%?\n$")
    ends(run { "-e", "count = 1; print(count, prnt)" }, 0, "1\tnil\n", "")
  end },
  { "exit codes of cft.exit, message and none", function()
    local r = run { script [[require("cft.base.exit").fail(4, "no model at %s", "x")]] }
    ends(r, 4, "", "^cftrun: no model at x\n$")
    ends(run { script [[print(1) require("cft.base.exit").leave(3)]] }, 3, "1\n", "")
    ends(run { script [[require("cft.base.exit").leave()]] }, 0, "", "")
    ends(run { script [[error { "odd" }]] }, 1, "", "^cftrun: an error that is a table, not a message: %[\"odd\"%]\n$")
  end },
  { "a message does not steer the terminal", function()
    ends(run { script [[error("a\27[2Jb\194\155c\nd\te", 0)]] }, 1, "", "^cftrun: a\\x1b%[2Jb\\xc2\\x9bc\nd\te\n$")
  end },
  { "output that cannot be written is no success", function()
    if host.kind "/dev/full" == nil then skip "no /dev/full" end
    local folder, exe = process.folder(), io.popen "readlink /proc/$PPID/exe":read "*l"
    os.execute(("'%s' -e 'print(1)' >/dev/full 2>%s/err; echo $? >%s/code"):format(exe, folder, folder))
    expect.same(io.open(folder .. "/code"):read "*a", "1\n")
    expect.same(io.open(folder .. "/err"):read "*a", "cftrun: the output could not be written whole\n")
  end },
  { "options in front of a script that never asks are not ignored", function()
    local path = script "print 'ran'"
    ends(run { "--demo", path }, 2, "ran\n", "s%.lua never called cft%.config, so %-%-demo did nothing\n$")
  end },

  { "commands: found, listed, suggested, given their arguments", function()
    local lua = process.folder()
    assert(host.make_folders(lua .. "/cft/cli/cmd"))
    process.write(lua .. "/cft/cli/cmd/greet.lua",
                  "--- Say hello.\nreturn { run = function(args) print(table.concat(args, ' ')) return 7 end }")
    local env = { CFT_LUA_PATH = lua }
    ends(run { "greet", "a", "--x", env = env }, 7, "a --x\n", "")
    ends(run { "--device", "cpu", "greet", "a", env = env }, 7, "--device cpu a\n", "")
    ends(run { "--help", "greet", env = env }, 7, "--help\n", "")
    ends(run { "gret", env = env }, 2, "", "no recipe and no command 'gret'; did you mean 'greet'%?\n$")
    expect.match(run({ "--help", env = env }).out, "\n  greet +Say hello%.\n")
  end },

  { "embedded sources are the files", function()
    if os.getenv "CFT_LUA_PATH" then skip "CFT_LUA_PATH is set: sources are being edited" end
    local modules = host.modules()
    expect.truthy(#modules > 10)
    for _, module in ipairs(modules) do
      local text, chunk = host.source(module)
      local file = assert(io.open(chunk:sub(2), "rb"))
      expect.truthy(text == file:read "*a", chunk .. " is not what was built in")
      file:close()
    end
  end },
  { "an object at the prompt cannot steer the terminal", function()
    local object = setmetatable({}, { __tostring = function() return "a\27[31m" end })
    local text = require("cft.prompt").text
    expect.same({ text(object), text { object } }, { "a\\x1b[31m", "{ a\\x1b[31m }" })
  end },
  { "a public name may be required, wherever its module lies", function()
    for name in ("data json files scan"):gmatch "%a+" do
      local r = run { "-e", ("print(require 'cft.%s' == require('cft').%s)"):format(name, name) }
      if name == "scan" then
        ends(r, 1, "", "module 'cft%.scan' not found")
      else
        ends(r, 0, "true\n", "")
      end
    end
  end },
  { "CFT_LUA_PATH replaces one module, and errors name its file", function()
    local lua = process.folder()
    assert(host.make_folders(lua .. "/cft/base"))
    process.write(lua .. "/cft/base/term.lua", "return { edited = true, paint = function(_, text) return text end }")
    process.write(lua .. "/cft/base/strict.lua", "return = 1")
    local env = { CFT_LUA_PATH = lua }
    ends(run { "-e", "print(require('cft.base.term').edited, require('cft.base.check').closest('a', {'a'}))", env = env }, 0, "true\ta\n", "")
    ends(run { script "", env = { CFT_LUA_PATH = lua } }, 1, "", "cft/base/strict%.lua:1: unexpected symbol near '='")
    expect.match(run({ "-e", "require 'cft.nothing'" }).err, "no module 'cft%.nothing' in cftrun")
  end },
  { "a module from CFT_LUA_PATH is the library still: errors name the user's line", function()
    local lua = process.folder()
    assert(host.make_folders(lua .. "/cft/base"))
    process.write(lua .. "/cft/base/check.lua", (host.source "cft.base.check"))
    local path = script "local check = require 'cft.base.check'\ncheck.options('f', { x = 1 }, {})"
    for _, env in ipairs { {}, { CFT_LUA_PATH = lua } } do
      ends(run { path, env = env }, 1, "", "^cftrun: [^\n]*s%.lua:2: f: unknown option 'x'\n$")
    end
  end },
  { "a folder named cft in the current directory replaces nothing", function()
    local folder = process.folder()
    assert(host.make_folders(folder .. "/cft/base"))
    process.write(folder .. "/cft/base/check.lua", "return 'hijacked'")
    ends(run { "-e", "print(type(require 'cft.base.check'))", env = { LUA_PATH = folder .. "/?.lua" } }, 0, "table\n", "")
  end },

  { "the prompt on a device", function()
    ends(run { "--device", "cpu", input = "cft.ones({ 2, 3 }):sum():item()\n" }, 0, "6\n", "")
  end },
  { "no GPU: one line, and 3", function()
    local r = run { "--device", "cuda", input = "" }
    if r.code == 0 then skip "there is a GPU" end
    ends(r, 3, "", "^cftrun: [^\n]+\n$")
  end },

  { "libgomp is told to sleep early, unless the user has said otherwise", function()
    local code = "print(os.getenv 'GOMP_SPINCOUNT', os.getenv 'OMP_WAIT_POLICY')"
    local env = function(spin, policy) return { GOMP_SPINCOUNT = spin, OMP_WAIT_POLICY = policy } end
    ends(run { "-e", code, env = env(false, false) }, 0, "10000\tnil\n", "")
    ends(run { "-e", code, env = env("7", false) }, 0, "7\tnil\n", "")
    ends(run { "-e", code, env = env(false, "ACTIVE") }, 0, "nil\tACTIVE\n", "")
  end },

  { "a pipe is a prompt without a prompt", function()
    ends(run { input = "1 + 1\nx = 3\nx, 'a\\n'\n" }, 0, '2\n3\t"a\\n"\n', "")
    ends(run { input = "for i = 1, 2 do\n  print(i)\nend\n" }, 0, "1\n2\n", "")
    ends(run { input = "'no newline at the end'" }, 0, '"no newline at the end"\n', "")
    ends(run { input = "" }, 0, "", "")
  end },
  { "the prompt shows tables shallowly", function()
    local function shows(code, text) ends(run { input = code .. "\n" }, 0, text .. "\n", "") end
    shows("{}", "{}")
    shows("{ 1, 'two', { 3 }, {}, x = true, ['a b'] = 0.5 }",
          '{ 1, "two", {...}, {}, ["a b"] = 0.5, x = true }')
    shows("(function() local t = {} for i = 1, 30 do t[i] = i end return t end)()",
          "{ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, ... 10 more }")
    shows("setmetatable({}, { __tostring = function() return 'me' end })", "me")
    shows("nil, false", "nil\tfalse")
    shows("require('cft.base.json').null", "null")
  end },
  { "errors do not end the prompt", function()
    local r = run { input = "do error 'a' end\nfoo bar\n{1, 2 3}\nprint(\n1 .. {}\n)\nerror {}\n" ..
                            "require('cft.base.exit').fail(3, 'no gpu')\nsetmetatable({}, { __tostring = function() error 'b' end })\n'alive'\n" }
    expect.same({ r.code, r.out }, { 0, '"alive"\n' })
    expect.match(r.err, "^stdin:1: a\nstdin:1: '=' expected near 'bar'\nstdin:1: '}' expected near '3'\n" ..
                        "stdin:2: attempt to concatenate a table value\ntable: 0x%x+\nno gpu\ncftrun: stdin:1: b\n$")
  end },
  { "an error that is a table is told, and a slip in a name of cft", function()
    ends(run { script "error {}" }, 1, "", "^cftrun: an error that is a table, not a message: {}\n$")
    ends(run { script "error { code = 3 }" }, 1, "", '^cftrun: an error that is a table, not a message: {"code":3}\n$')
    ends(run { script "print(require('cft').dataa.open)" }, 1, "", "cft has no 'dataa'; did you mean 'data'%?\n$")
  end },
  { "descriptors that the parent closed are no files of ours", function()
    local folder = process.folder()
    local code = script(("local f = io.open('%s/f', 'w') print 'printed' io.stderr:write 'said' f:write 'mine' f:close()")
      :format(folder))
    expect.same(process.shell(("cftrun %s <&- >&- 2>&-; echo $?; cat f"):format(code), folder), "0\nmine")
  end },
  { "a file that outgrows ulimit -f is a failed write", function()
    local folder = process.folder()
    local code = script(("require('cft').files.write('%s/f', ('x'):rep(1e6))"):format(folder))
    expect.match(process.shell(("ulimit -f 100; cftrun %s; echo $?"):format(code), folder),
                 "cftrun: [^\n]*write [^\n]*: File too large\n1\n$")
  end },
  { "Ctrl-C that the parent ignores stays ignored", function()
    local code = script "local ffi = require 'ffi' ffi.cdef 'int raise(int);' ffi.C.raise(2) for i = 1, 1e5 do end print 'alive'"
    expect.match(process.shell(("sh -c 'trap \"\" INT; cftrun %s'; echo $?"):format(code), process.folder()), "^alive\n0\n$")
    expect.match(process.shell(("cftrun %s; echo $?"):format(code), process.folder()), "interrupted\n130\n$")
  end },
  { "an unfinished text at the end is an error", function()
    ends(run { input = "for i = 1, 2 do\n" }, 0, "", "'end' expected")
  end },
  { "exit() leaves at once", function()
    ends(run { input = "1\nexit() print 'same line'\n2\n" }, 0, "1\n", "")
  end },
  { "globals of one line are seen by the next, and the locals that it begins with; others are not", function()
    ends(run { input = "local a = 1\nb = 2 local c = 3\na, b, c\n" }, 0, "1\t2\tnil\n", "")
  end },
}
