-- cftrun help, completion and new: what is explained, completed and written.
local expect = require "tests.expect"
local process = require "tests.process"

local run, contents = process.cftrun, process.contents

local function is(r, code, pattern)
  expect.same({ r.code, r.err }, { code, code == 0 and "" or r.err })
  expect.match(code == 0 and r.out or r.err, pattern)
end

-- What bash offers for a line that is being typed, in order.
local function offered(folder, line)
  local script = [==[
source <(cftrun completion bash)
COMP_LINE=$1; COMP_POINT=${#1}; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); [[ $1 == *' ' ]] && ((++COMP_CWORD))
_cftrun; printf '%s\n' "${COMPREPLY[@]}"]==]
  process.write(folder .. "/try.sh", script)
  local out = process.shell(("bash try.sh '%s'"):format(line), folder)
  local list = {}
  for word in out:gmatch "[^\n]+" do list[#list + 1] = word:match "^(.-)%s*$" end
  return list
end

local function data(folder, text) process.write(folder .. "/m.jsonl", text) end

local CRITIQUES = '{"q":"What is 2+2?","attempt":"4","feedback":"Right.","ok":true}\n'
  .. '{"q":"What is 2+3?","attempt":"4","feedback":"Wrong.","ok":false}\n'

return {
  { "help explains by name, and says what it does not know", function()
    is(run { "help", "cft.models.load" }, 0, "^cft%.models%.load%(name, opts%)\n")
    is(run { "help" }, 0, "\n  models +Models: ")
    local r = run { "help", "rmsnrm" }
    expect.same(r.code, 1)
    expect.match(r.out, "^nothing is called 'rmsnrm'; did you mean 'rmsnorm'%?")
    is(run { "help", "--htlm", "x" }, 2, "unknown option '%-%-htlm'; did you mean '%-%-html'%?")
    is(run { "help", "--html" }, 2, "wants a file")
  end },
  { "the page has every module, a search, and lets nothing in from elsewhere", function()
    local path = process.folder() .. "/r.html"
    is(run { "help", "--html", path }, 0, "written to")
    local html = contents(path)
    for name in pairs(require "cft.prompt.public".modules()) do expect.match(html, "<section id='cft%." .. name .. "'>") end
    expect.match(html, "id=search")
    expect.match(html, "default%-src 'none'")
    expect.truthy(not html:find "https?://[^\"'<> ]*%.js")
  end },
  { "definitions load as Lua and name every setting", function()
    local path = process.folder() .. "/cft.lua"
    is(run { "help", "--types", path }, 0, "written to")
    expect.truthy(loadfile(path))
    local text = contents(path)
    for name in pairs(require "cft.config.keys".by_name) do expect.match(text, "\n%-%-%-@field " .. name .. "%? %l") end
    expect.match(text, "\n%-%-%-@param name string[^\n]*\n[^\n]*\n[^\n]*\nfunction cft%.models%.load%(name, opts%) end")
  end },
  { "a help page that cannot be written is an error", function()
    local folder = process.folder()
    data(folder, "")
    is(run { "help", "--html", folder .. "/m.jsonl/r.html" }, 1, "m%.jsonl")
  end },
  { "bash completes commands, options, settings, their values and files", function()
    local folder = process.folder()
    data(folder, "{}\n")
    expect.same(offered(folder, "cftrun hel"), { "help" })
    expect.same(offered(folder, "cftrun x.lua weight_d"), { "weight_decay=" })
    expect.same(offered(folder, "cftrun x.lua --resu"), { "--resume" })
    expect.same(offered(folder, "cftrun x.lua data=m"), { "m.jsonl" })
    expect.same(offered(folder, "cftrun x.lua master="), { "true", "false" })
    is(run { "completion", "fish" }, 0, "complete %-c cftrun %-n __fish_is_first_arg %-a help")
    is(run { "completion", "bsh" }, 2, "bash or fish is wanted, got 'bsh'; did you mean 'bash'%?")
    is(run { "completion" }, 2, "got nothing")
  end },
  { "new writes a recipe for critiques, which runs", function()
    local folder = process.folder()
    data(folder, CRITIQUES)
    expect.match(process.shell("cftrun new mine m.jsonl && cftrun mine.lua --preview 1 heldout=0", folder), "Conclusion: right %[END%]")
    expect.match(contents(folder .. "/mine.lua"), 'fields = cft%.critique%.paper { question = "q", solution = "attempt", '
      .. 'critique = "feedback", right = "ok" }')
    expect.match(process.shell("cftrun new mine m.jsonl 2>&1; echo $?", folder), "mine%.lua is there already\n2\n$")
  end },
  { "new writes one for answers, by names of columns or as it is told", function()
    local folder = process.folder()
    data(folder, '{"problem": "2+2?", "note": "x", "answer": "4"}\n')
    process.shell("cftrun new a m.jsonl", folder)
    expect.match(contents(folder .. "/a.lua"), 'instruction = r%["problem"%], output = r%["answer"%]')
    process.shell("cftrun new b m.jsonl --answer note", folder)
    expect.match(contents(folder .. "/b.lua"), 'instruction = r%["problem"%], output = r%["note"%]')
    data(folder, '{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}\n')
    expect.match(process.shell("cftrun new c m.jsonl && cftrun c.lua --preview 1 heldout=0", folder), "⟦4⟧")
    expect.truthy(not contents(folder .. "/c.lua"):find("fields =", 1, true))
  end },
  { "new says what it cannot tell, and takes no wrong word", function()
    local folder = process.folder()
    data(folder, '{"x": "2+2?", "y": "4"}\n')
    local function says(arguments, pattern)
      expect.match(process.shell(("cftrun new %s 2>&1; echo $?"):format(arguments), folder), pattern .. ".*\n2\n$")
    end
    says("a m.jsonl", "the columns of m%.jsonl do not say what they are: x, y%. Name them: %-%-question COLUMN")
    says("a m.jsonl --question z", "no column 'z' among x, y")
    says("a m.jsonl --qestion x", "unknown option '%-%-qestion'; did you mean 'question'%?")
    says("a m.jsonl --question", "%-%-question wants a column")
    says("'a b' m.jsonl", "a name of letters, digits, _ and %- is wanted, got \"a b\"")
    says("a m.jsonl n.jsonl", "one file of data, got 'n%.jsonl' too")
    says("a --question x", "columns are named, but no DATA")
    says("", "a name is wanted")
    expect.match(process.shell("ls", folder), "^m%.jsonl\n$")
  end },
}
