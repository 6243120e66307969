-- `help`: docstrings of modules, functions, methods, ops and settings; every public function has one.
local cft = require "cft"
local examples = require "cft.prompt.examples"
local expect = require "tests.expect"
local formulas = require "cft.engine.rules.formulas"
local help = require "cft.prompt.help"
local public = require "cft.prompt.public"
local reference = require "cft.prompt.reference"

local function has(what, ...)
  local page = help.page(what)
  for _, pattern in ipairs { ... } do expect.match(page, pattern) end
end

-- Public modules and the functions of each.
local function each_function(fn)
  for name, module in pairs(public.modules()) do
    for _, f in ipairs(public.functions(module)) do fn(name, f) end
  end
end

return {
  { "a docstring's tags", function()
    local doc = reference.parse { "What it does,", "in two lines.", "@string name of it @int[opt=3] n how many",
                                  "of them", "@treturn Tensor (n, d) @treturn ?string why", "@raise on Sundays",
                                  "@usage f('x') -- me@int.org", "g(@int)" }
    expect.same(doc, {
      text = { "What it does,", "in two lines." },
      params = { { name = "name", type = "string", text = { "of it" } },
                 { name = "n", type = "int", default = "3", text = { "how many", "of them" } } },
      returns = { { type = "Tensor", text = { "(n, d)" } }, { type = "?string", text = { "why" } } },
      raises = { { text = { "on Sundays" } } },
      usage = { "f('x') -- me@int.org", "g(@int)" },
    })
  end },
  { "a function, by value and by name", function()
    for _, what in ipairs { cft.models.load, "cft.models.load", "models.load" } do
      has(what, "^cft%.models%.load%(name, opts%)", "Load a model by folder", "opts %(table, optional%)",
          "lua/cft/models/init%.lua:%d+$")
    end
  end },
  { "a method, an op, a setting, a module", function()
    has("Tensor:to_host", "^Tensor:to_host%(%)", "FFI array")
    has(cft.zeros({ 1 }).to_host, "^Tensor:to_host%(%)")
    has("x:sum", "cft%.ops%.sum%(x, dim%)", "also a method")
    has(cft.ops.rmsnorm, "^cft%.ops%.rmsnorm%(x, w, eps%)", "w x / sqrt")
    has("weight_decay", "^weight_decay=", "a setting")
    has(cft.data, "^cft%.data", "list%(")
    has("cft.data", "^cft%.data", "list%(")
    has(cft.zeros { 1 }, "^cft%.tensor")
  end },
  { "what is not known", function()
    has("cft.dataa", "^nothing is called 'cft%.dataa'; did you mean 'cft%.data'%?$")
    has("a\27[31m", "^nothing is called 'a\\x1b%[31m'")
    has("(%", "^nothing is called")
    has(print, "Lua 5%.1 manual")
    has(3, "^a number; help%(%)")
    has(function() end, "tests/prompt/help%.lua, line %d+, without a docstring")
  end },
  { "the contents name every module with what it is", function()
    local page = help.page()
    for name in pairs(public.modules()) do expect.match(page, "\n  " .. name .. " +%S") end
  end },
  { "help finds every public function by its name", function()
    each_function(function(name, f)
      local called = help.called(name, f)
      expect.match(help.page(called), (called:gsub("%p", "%%%0")))
    end)
  end },
  { "every public function has a docstring that names its arguments", function()
    local missing = {}
    each_function(function(_, f)
      local words = table.concat(f.text, " ")
      for _, p in ipairs(f.params) do words = words .. " " .. (p.name or "") .. " " .. table.concat(p.text, " ") end
      if not f.said then missing[#missing + 1] = ("%s:%d: %s has no docstring"):format(f.path, f.line, f.name) end
      for argument in f.arguments:gmatch "[%w_]+" do
        if f.said and not words:find("%f[%w_]" .. argument .. "%f[^%w_]") then
          missing[#missing + 1] = ("%s:%d: %s does not say what %s is"):format(f.path, f.line, f.name, argument)
        end
      end
    end)
    expect.same(missing, {})
  end },
  { "every public function is called in an example, which tests/house/docs.lua runs", function()
    local missing, family = {}, {}
    local function called(f) return f.example and examples.calls(f.example, f.name) end
    each_function(function(_, f)  -- what one docstring stands for is shown by one of them
      if f.made and called(f) then family[f.path .. f.line] = true end
    end)
    each_function(function(name, f)
      if not family[f.path .. f.line] and not called(f) then
        missing[#missing + 1] = ("%s:%d: no example calls %s"):format(f.path, f.line, help.called(name, f))
      end
    end)
    expect.same(missing, {})
  end },
  { "an example calls what it names, and needs what it does not make", function()
    expect.same({ examples.calls({ "x:sum()", "y.mean 'a'" }, "sum"), examples.calls({ "y.mean{}" }, "mean"),
                  examples.calls({ "'x:sum()' -- x:sum()" }, "sum"), examples.calls({ "x.sums()" }, "sum"),
                  examples.calls({ "pcall(a.b.sum, 3)" }, "sum") }, { true, true, false, false, true })
    local function needs(...)
      local list = examples.prelude { ... }
      for i, line in ipairs(list) do list[i] = line:match "^%w+" end
      return table.concat(list, " ")
    end
    expect.same({ needs "tok:size()", needs("local tok = 3", "tok:size()"), needs "f { tok = 1 }", needs "f(x.tok, 'tok') -- tok",
                  needs("x = 1", "f(samples)"), needs "f { tok = tok }" },
                { "source tok", "", "", "", "source tok chat samples", "source tok" })
  end },
  { "every op is explained", function()
    for name in pairs(require "cft.engine.rules") do
      local op = formulas[name]
      expect.truthy(op, name .. " is not in lua/cft/engine/rules/formulas.lua")
      expect.truthy(op.example and examples.calls(op.example, name) or name == "rope" or name == "attention", name .. " has no example")
    end
  end },
}
