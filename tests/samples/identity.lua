-- Names of sources, templates and tokenizers: equal for equal ones, others where something differs, or the reason
-- why there is none.

local canonical = require "cft.base.canonical"
local data = require "cft.data.open"
local demo = require "cft.demo"
local expect = require "tests.expect"
local identity = require "cft.samples.identity"
local json = require "cft.base.json"
local mix = require "cft.data.mix"
local process = require "tests.process"
local template = require "cft.text.template"

local function record(i, change)
  return { instruction = "question " .. i, input = "", output = "answer " .. i .. (change or ""), id = i }
end

local function list(n, change)
  local records = {}
  for i = 1, n do records[i] = record(i, i == 2 and change or nil) end
  return records
end

local function file(name, n, change)
  local lines = {}
  for i, r in ipairs(list(n, change)) do lines[i] = json.encode(r) end
  process.write(name, table.concat(lines, "\n") .. "\n")
  return name
end

-- All of them are names, and each another one.
local function all_differ(names)
  local seen = {}
  for k, name in ipairs(names) do
    expect.match(tostring(name), "^%x+$")
    expect.same(#name, 32)
    expect.truthy(not seen[name], ("name %d is that of %s"):format(k, tostring(seen[name])))
    seen[name] = k
  end
end

local function times(n) return function(r) return { instruction = r.messages[1].content:rep(n), output = "a" } end end

return {
  { "files are named by what they hold and how it is read", function()
    local folder = process.folder()
    local a, b = file(folder .. "/a.jsonl", 5), file(folder .. "/b.jsonl", 5, "!")
    local function open(path, o) return data.open(path, o) end
    expect.same(open(file(folder .. "/c.jsonl", 5)):identity(), open(a):identity())
    expect.same(open(a, { name = "else", limit_bad = 3 }):identity(), open(a):identity())
    all_differ { open(a):identity(), open(b):identity(), open({ a, b }):identity(), open({ b, a }):identity(),
      open(a, { schema = "none" }):identity(), open(a, { allow_empty = true }):identity(),
      open(a, { fields = function(r) return r end }):identity(),
      open(a, { fields = function(r) r.input = nil return r end }):identity() }
  end },

  { "lists are named by their records", function()
    expect.same(data.list(list(4)):identity(), data.list(list(4), { name = "another" }):identity())
    expect.same(data.list(list(4)):identity(true), data.list(list(4)):identity())
    all_differ { data.list(list(4)):identity(), data.list(list(4, "!")):identity(), data.list(list(5)):identity(),
      data.list(list(4), { fields = function(r) return r end }):identity() }
    local shared = { role = "user", content = "q" }
    local function messages(q) return { { messages = { q, { role = "assistant", content = "a" } }, of = q } } end
    local apart = messages(shared)
    apart[1].of = { role = "user", content = "q" }
    expect.same(data.list(messages(shared)):identity(), data.list(apart):identity())
    local _, why = data.list({ { instruction = "q", output = "a", source = io.tmpfile() } }):identity()
    expect.same(why, "source of [1] is a userdata")
  end },

  { "views are named by what they show", function()
    local source = data.list(list(20))
    local train, heldout = source:split { heldout = 4, seed = 1 }
    local other = source:split { heldout = 4, seed = 2 }
    local function odd(_, i) return i % 2 == 1 end
    all_differ { source:identity(), train:identity(), heldout:identity(), other:identity(), source:range(0, 4):identity(),
      source:range(4, 4):identity(), source:select({ 1, 2, 3 }):identity(), source:select({ 3, 2, 1 }):identity(),
      source:filter(odd):identity(), source:map(times(2)):identity(), source:map(times(3)):identity(),
      source:map(times(2)):map(times(2)):identity(), source:map(times(2)):range(1):identity() }
    expect.same(source:split({ heldout = 4, seed = 1 }):identity(), train:identity())
    expect.same(source:filter(odd):identity(true), source:select({ 1, 3, 5, 7, 9, 11, 13, 15, 17, 19 }):identity())
    expect.same(source:map(times(2)):identity(), source:map(times(2)):identity())
  end },

  { "generated records are named by the function that makes them", function()
    local function source(n, change) return data.generate(n, function(i) return record(i, change) end) end
    expect.same(source(3):identity(), source(3):identity())
    all_differ { source(3):identity(), source(4):identity(), source(3, "!"):identity(), (demo.sources { seed = 1 }):identity(),
      (demo.sources { seed = 2 }):identity() }
    expect.same({ source(3):identity(true) }, { nil, "its records are made by a function" })
  end },

  { "functions without a name say why", function()
    local source, cfg, tok = data.list(list(3)), setmetatable({ steps = 3 }, {}), demo.tokenizer(1)
    local function reason(make, exact)
      local name, why = source:map(make):identity(exact)
      expect.same(name, nil)
      return why
    end
    local head = "map is a function that has no name: "
    expect.same(reason(function(r) return cfg.steps and r end), head .. "its upvalue 'cfg' is an object")
    expect.same(reason(function(r) return tok and r end), head .. "its upvalue 'tok' is an object")
    local inner = function(r) return cfg.steps and r end
    local function outer(r) return inner(r) end
    expect.same(reason(outer), head .. "its upvalue 'inner' is a function that has no name: "
      .. "its upvalue 'cfg' is an object")
    local handle = { file = io.tmpfile() }
    expect.same(reason(function(r) return handle and r end), head .. "file of its upvalue 'handle' is a userdata")
    local by_key = { [handle] = 1 }
    expect.same(reason(function(r) return by_key and r end), head .. "its upvalue 'by_key' has a key that is a table")
    local one, two = function(r) return r end, function(r) return nil, r end
    expect.match(reason(one), "^map is a function that has no name: more than one function begins in line %d+ of .*identity.lua$")
    expect.truthy(two)
    expect.same(reason(assert(loadstring("return function(r) return r end", "=made up"))()),
      head .. "the text of made up is not there")
    expect.same(reason(coroutine.wrap(times)), head .. "it is no Lua function with lines of its own")
    expect.same(reason(times(2), true), "map is a function, and a function has no name")
    local name = source:map(assert(loadstring("return function(r) return r end"))()):identity()
    expect.same(#name, 32)  -- the text that was loaded is at hand
  end },

  { "a function that calls itself, and functions of cft and Lua, have names", function()
    local function down(n) return n == 0 and 0 or down(n - 1) end
    local floor, made = math.floor, template.chatml
    local function uses() return floor(1), made, json.null end
    expect.truthy(canonical.text(down))
    local text = canonical.text(uses)
    expect.match(text, "floor=math.floor")
    expect.match(text, "json=cft.base.json")
    expect.match(text, "made=cft.text.template.chatml")
  end },

  { "tables without end in each other have no name", function()
    local deep = {}
    for _ = 1, 20000 do deep = { deep } end
    local text, why = canonical.text(deep)
    expect.same({ text, why }, { nil, "there are more than 100 tables in each other" })
    local function uses() return deep end
    text, why = canonical.text(uses, { what = "map" })
    expect.same(text, nil)
    expect.same(why, "map is a function that has no name: there are more than 100 tables in each other")
  end },

  { "mixtures are named by their parts and how often each is taken", function()
    local a, b = data.list(list(4)), data.list(list(6))
    local function name(parts, exact) return (mix.new(parts):identity(exact)) end
    local function rising(progress) return progress end
    expect.same(name { { a, weight = 1 }, { b, weight = 2 } }, name { { a, weight = 1 }, { b, weight = 2 } })
    all_differ { name { { a, weight = 1 }, { b, weight = 2 } }, name { { b, weight = 1 }, { a, weight = 2 } },
      name { { a, weight = 1 }, { b, weight = 3 } }, name { { a, epochs = 1 }, { b, epochs = 2 } },
      name { { a, weight = 1 }, { b, weight = 2 }, size = 5 }, name { { a, weight = 1, cap = 2 }, { b, weight = 2 } },
      name { { a, weight = 1 }, { b, weight = 2 }, temperature = 2 }, name { { a }, { b }, temperature = 2 },
      name { { a, weight = 1 }, { b, weight = rising } }, name { { a, weight = 1 }, { b, weight = rising }, over = 9 },
      name { { a, weight = 1 }, { b, weight = 2 }, dedup = "exact" },
      name { { a, weight = 1, map = times(2) }, { b, weight = 2 } } }
    local m = mix.new { { a, weight = 1 }, { b, weight = rising } }
    expect.same({ m:identity(true) }, { nil, "part 2: weight is a function, and a function has no name" })
    local cfg = setmetatable({ steps = 3 }, {})
    m = mix.new { { a, weight = 1 }, { b:map(function(r) return cfg and r end), weight = 1 } }
    expect.same({ m:identity() }, { nil, "part 2: map is a function that has no name: its upvalue 'cfg' is an object" })
  end },

  { "templates, tokenizers and policies have names", function()
    local tok, larger = demo.tokenizer(1), demo.tokenizer(1)
    larger:add_token "made up"
    local policy = { max_tokens = 7 }
    local function answer(weight) return { learn = { response = function() return weight end } } end
    expect.same(identity.of(template.chatml(), tok, policy), identity.of(template.chatml(), demo.tokenizer(1), { max_tokens = 7 }))
    all_differ { identity.of(template.chatml(), tok, policy), identity.of(template.chatml(), tok, { max_tokens = 8 }),
      identity.of(template.chatml(), larger, policy), identity.of(template.chatml { system = "else" }, tok, policy),
      identity.of(template.qwen(), tok, policy), identity.of(template.chatml(answer(1)), tok, policy),
      identity.of(template.chatml(answer(2)), tok, policy) }
    expect.same({ identity.of(template.chatml(answer(1)), tok, policy, true) },
      { nil, "the template has functions of the recipe, and a function has no name" })
    expect.same({ identity.of(template.chatml { learn = { response = function() return tok end } }, tok, policy) },
      { nil, "template: response of by_kind is a function that has no name: its upvalue 'tok' is an object" })
  end },

  { "Lua files that are taken in place of those inside name another program", function()
    local folder, names = process.folder(), {}
    local function name()
      local r = process.cftrun { "-e", [[print(require("cft.samples.identity").program())]], env = { CFT_LUA_PATH = folder } }
      expect.same(r.err, "")
      names[#names + 1] = r.out
    end
    name()
    os.execute("mkdir -p " .. folder .. "/cft/text/more")
    process.write(folder .. "/cft/text/more/mine.lua", "return 1")
    name()
    process.write(folder .. "/cft/made_up.lua", "return 1")
    name()
    process.write(folder .. "/cft/made_up.lua", "return 2")
    name()
    name()
    for k = 1, 3 do expect.truthy(names[k] ~= names[k + 1], "name " .. k) end
    expect.same(names[5], names[4])
  end },
}
