-- The token cache: what is taken from it is what would have been made; what does not fit is said and left out.

local data = require "cft.data"
local demo = require "cft.demo"
local expect = require "tests.expect"
local host = require "cft.host"
local mask = require "cft.mask"
local process = require "tests.process"
local template = require "cft.template"
local tokencache = require "cft.tokencache"

local tok = demo.tokenizer(1)

-- Records of the demo, one with a special token's string, one that is too long.
local function records(n, change)
  local make, list = demo.training(1), {}
  for i = 0, n - 1 do
    local r = make(i)
    list[i + 1] = { instruction = r.instruction, input = r.input, output = r.output }
  end
  if n > 2 then
    list[2].input = list[2].input .. "<|im_end|>"
    list[3].output = list[3].output:rep(9)
  end
  if change then change(list) end
  return list
end

local function samples(folder, list, o)
  o = o or {}
  return mask.samples(data.list(list), o.chat or template.chatml(), o.tok or tok, {
    cache = folder, max_tokens = o.max_tokens or 250, length = o.length, cache_bytes = o.cache_bytes,
  })
end

-- All that a run sees of samples.
local function seen(s)
  local list = { s.report.tokens, s.report.learned, s.report.longest, s.report.dropped, s.report.specials }
  for k = 0, s:size() - 1 do
    local one = s:get(k)
    list[#list + 1] = { s:show(k), one.record, one.ends, one.verdict, one.cut, s.weights[k] }
  end
  return list
end

local function blocks(folder)
  local paths = {}
  for _, key in ipairs(host.list(folder)) do
    for _, name in ipairs(host.list(folder .. "/" .. key)) do paths[#paths + 1] = folder .. "/" .. key .. "/" .. name end
  end
  return paths
end

local function counts(s) return { s.token_cache.taken, s.token_cache.added, #s.token_cache.broken } end

local function contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

return {
  { "what comes from it is what would have been made", function()
    for _, o in ipairs { {}, { length = "llamafactory" }, { length = "cut_context" }, { cache_bytes = 0 } } do
      local folder, list = process.folder(), records(6)
      local made = samples(nil, list, o)
      local first, again = samples(folder, list, o), samples(folder, list, o)
      expect.same(counts(first), { 0, 6, 0 })
      expect.same(counts(again), { 6, 0, 0 })
      expect.same(seen(first), seen(made))
      expect.same(seen(again), seen(made))
      expect.match(again:describe(), "token cache .*: 6 records taken, 0 added")
    end
  end },

  { "a record that changed is made again, the others are not", function()
    local folder = process.folder()
    samples(folder, records(6))
    local list = records(6, function(l) l[5].output = "Another. " .. l[5].output end)
    local s = samples(folder, list)
    expect.same(counts(s), { 5, 1, 0 })
    expect.same(seen(s), seen(samples(nil, list)))
    expect.same(counts(samples(folder, records(6))), { 6, 0, 0 })
  end },

  { "template, policy and tokenizer have caches of their own", function()
    local folder, list = process.folder(), records(2)
    samples(folder, list)
    local bigger = demo.tokenizer(1)
    bigger:add_token("Solution", { special = false })
    for _, o in ipairs {
      { chat = template.qwen() }, { chat = template.chatml { learn = { verdict = 2 } } },
      { chat = template.chatml { turns = "last" } }, { max_tokens = 251 }, { length = "cut_context" }, { tok = bigger },
    } do
      expect.same(counts(samples(folder, list, o)), { 0, 2, 0 })
      expect.same(counts(samples(folder, list, o)), { 2, 0, 0 })
    end
    expect.same(counts(samples(folder, list)), { 2, 0, 0 })
  end },

  { "a truncated block is said, left out and made again", function()
    local folder, list = process.folder(), records(6)
    samples(folder, list)
    local path = blocks(folder)[1]
    process.write(path, contents(path):sub(1, -20))
    local s = samples(folder, list)
    expect.same(counts(s), { 0, 6, 1 })
    expect.match(s:describe(), "left out: .*%.tokens: its %d+ bytes are not those that were written")
    expect.same(seen(s), seen(samples(nil, list)))
    expect.same(counts(samples(folder, list)), { 6, 0, 0 })  -- the good one has the same name
  end },

  { "a changed byte is found", function()
    local folder, list = process.folder(), records(6)
    samples(folder, list)
    local path = blocks(folder)[1]
    local text = contents(path)
    process.write(path, text:sub(1, -9) .. "\1" .. text:sub(-7))
    expect.same(counts(samples(folder, list)), { 0, 6, 1 })
  end },

  { "a block of other settings is said and left out", function()
    local folder, other, list = process.folder(), process.folder(), records(6)
    samples(folder, list)
    samples(other, list, { max_tokens = 249 })
    local stale = blocks(other)[1]
    process.write(blocks(folder)[1]:match "^(.*)/" .. "/" .. stale:match "[^/]*$", contents(stale))
    local s = samples(folder, list)
    expect.same(counts(s), { 6, 0, 1 })
    expect.match(s:describe(), "left out: .*: was made with another template, tokenizer, policy or program")
  end },

  { "a run that died leaves what it had written", function()
    local folder, list = process.folder(), records(6)
    local cache = assert(tokencache.open(folder, template.chatml(), tok, { max_tokens = 9 }))
    local record = data.conversation(list[1])
    local sample = mask.encode(record, template.chatml(), tok)
    cache:put(cache:key(record), sample)
    expect.same(blocks(folder), {})
    cache:flush()
    local next_one = tokencache.open(folder, template.chatml(), tok, { max_tokens = 9 })
    expect.same(next_one.found, 1)
    expect.same(next_one:get(next_one:key(record)).n, sample.n)
    expect.same(next_one:get(next_one:key(data.conversation(list[2]))), nil)
  end },

  { "blocks that are removed meanwhile are made again", function()
    local folder, list = process.folder(), records(6)
    samples(folder, list)
    local s = samples(folder, list, { cache_bytes = 0 })
    expect.same(counts(s), { 6, 0, 0 })
    s.token_cache.path = nil
    os.remove(blocks(folder)[1])
    expect.same(seen(s), seen(samples(nil, list)))
  end },

  { "weights that are functions are not cached, and it says so", function()
    local s = samples(process.folder(), records(2), { chat = template.chatml { learn = { verdict = function() return 2 end } } })
    expect.match(s:describe(), "not cached: the template has functions of the recipe")
    local custom = template.custom(function(r) return { { text = r.messages[1].content }, { text = "x", learn = true } } end)
    expect.match(samples(process.folder(), records(2), { chat = custom }):describe(), "not cached")
  end },

  { "parts of a message, and kinds that a recipe makes up", function()
    local folder = process.folder()
    local function list(weight)
      return { { messages = {
        { role = "user", content = "Why?" },
        { role = "assistant", content = { { text = "So", kind = "critique", learn = weight }, { text = " it is.", kind = "verdict" } } },
      } }, { messages = {
        { role = "user", content = { { text = "Why?", kind = "riddle" } } }, { role = "assistant", content = "So." },
      } } }
    end
    local first = samples(folder, list(2))
    expect.same(counts(first), { 0, 1, 0 })  -- a riddle's number may be another one in the next process
    expect.same(counts(samples(folder, list(2))), { 1, 0, 0 })
    expect.same(seen(samples(folder, list(2))), seen(first))
    expect.same(counts(samples(folder, list(3))), { 0, 1, 0 })
    expect.same(seen(samples(folder, list(3))), seen(samples(nil, list(3))))
  end },
}
