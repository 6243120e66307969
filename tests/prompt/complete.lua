-- Tab: what is put in, and what is shown.
local complete = require "cft.prompt.complete".complete
local expect = require "tests.expect"
local host = require "cft.host"
local process = require "tests.process"

local function with(name, value, fn)
  rawset(_G, name, value)
  local ok, message = pcall(fn)
  rawset(_G, name, nil)
  if not ok then error(message, 0) end
end

local function puts(text, insert)
  return { text .. " <Tab>", function() expect.same({ complete(text) }, { insert }) end }
end

return {
  puts("cft.recip", "e"), puts("cft.data.gene", "rate"), puts("whi", "le"), puts("print(cft.mode", "ls"),
  puts("cft.config { weight_d", "ecay = "), puts("cft.recipe.run({ batch = 4, war", "mup = "),
  puts("x:to('bf", "16"), puts("-- cft.rec", ""), puts("nothing_so_called", ""), puts("nil.x", ""), puts("'abc", ""),
  { "several names are shown, and what they share is put in", function()
    with("thing", { alpha = 1, alps = 2, beta = 3, ["no name"] = 4, __hidden = 5 }, function()
      expect.same({ complete "thing.a" }, { "lp" })
      expect.same({ complete "thing.alp" }, { "", "alpha  alps" })
      expect.same({ complete "thing." }, { "", "alpha  alps   beta" })
      expect.same({ complete "thing:" }, { "" })  -- no function among them
    end)
  end },
  { "methods are found through metatables, without running what they hold", function()
    local trap = setmetatable({}, { __index = function() error "asked" end })
    local child = setmetatable({ own = 1 }, { __index = setmetatable({ method = print }, { __index = trap }) })
    with("child", child, function()
      expect.same({ complete "child:" }, { "method" })
      expect.same({ complete "child.o" }, { "wn" })
      expect.same({ complete "child.no.such." }, { "" })
    end)
  end },
  { "a tensor's methods", function()
    with("t", require("cft").zeros { 2 }, function() expect.same({ complete "t:to_ta" }, { "ble" }) end)
  end },
  { "files in quotes, folders with a slash, hidden ones where asked for", function()
    local folder = process.folder()
    process.write(folder .. "/train.jsonl", "")
    process.write(folder .. "/.hidden", "")
    assert(host.make_folders(folder .. "/trips"))
    expect.same({ complete(("f('%s/tra"):format(folder)) }, { "in.jsonl" })
    expect.same({ complete(('f("%s/tri'):format(folder)) }, { "ps/" })
    expect.same({ complete(('f("%s/tr'):format(folder)) }, { "", "train.jsonl  trips/" })
    expect.same({ complete(("f('%s/.h"):format(folder)) }, { "idden" })
    expect.same({ complete(("f('%s/none/x"):format(folder)) }, { "" })
  end },
}
