-- Tools and reasoning through published chat templates: texts and masks equal to transformers', and each character comes
-- from where it came from.

local conversation = require "cft.data.conversation"
local data = require "cft.data.open"
local expect = require "tests.expect"
local fake = require "tests.fake_tokenizer"
local json = require "cft.base.json"
local render = require "cft.text.chat_render"
local template = require "cft.text.template"
local traced = require "cft.text.jinja.traced"

local head, templates = nil, {}
for _, line in data.open("tests/golden/chat_tools.jsonl.zst", { schema = "none" }):records() do
  if line.conversations then head = line else templates[#templates + 1] = line end
end

local function null_or(value)
  if value ~= json.null then return value end
end

-- Tokens that models have among their added ones and do not mark as special.
local function is_plain(token)
  return token:find("think", 1, true) or token:find("tool", 1, true) and not token:find("^%[")
end

local function tokenizer_of(t)
  local names, plain = { bos = t.bos, eos = t.eos }, {}
  for i, token in ipairs(t.tokens) do names[i], plain[token] = token, is_plain(token) end
  names.plain = plain
  local tok = fake(names)
  tok.chat_template = t.template
  return tok
end

local function record_of(messages, tools)
  return assert(conversation.of { messages = messages, tools = tools })
end

-- Text with loss weight in marks.
local function shown(segments)
  local out = {}
  for i, s in ipairs(segments) do out[i] = s.weight > 0 and "«" .. s.text .. "»" or s.text end
  return (table.concat(out):gsub("»«", ""))
end

-- A text with [first, behind) of its characters in marks, as transformers counts them.
local function marked(text, spans)
  local chars, parts, at = {}, {}, 0
  for c in text:gmatch "[%z\1-\127\194-\244][\128-\191]*" do chars[#chars + 1] = c end
  for _, span in ipairs(spans) do
    parts[#parts + 1] = table.concat(chars, "", at + 1, span[1])
    parts[#parts + 1] = "«" .. table.concat(chars, "", span[1] + 1, span[2]) .. "»"
    at = span[2]
  end
  return (table.concat(parts):gsub("»«", ""))
end

local function rendered(record, tok)
  local chat = template.own()
  return render.new(record, tok, function(role, text) return chat:cut(role, text) end)
end

-- A generator of numbers that is the same everywhere.
local function draws(seed)
  return function(n)
    seed = (seed * 16807) % 2147483647
    return seed % n + 1
  end
end

local WORDS = { "a", "Fogo", "é三", "<|im_end|>", "<|im_start|>assistant\n", "</s>", "[INST]", "{{ x }}", "{% if %}", "\n", "  ",
  "<tool_call>", "\"quoted\"", "\\", "<｜end▁of▁sentence｜>", "user", "[/TOOL_CALLS]", "<|return|>", "476", "\t", "&<>'" }

local function text_of(draw, most)
  local words = { "w" }  -- none is white space alone, or begins like a word of a template's
  for i = 1, draw(most) do words[i + 1] = WORDS[draw(#WORDS)] end
  words[#words + 1] = "w"
  return table.concat(words)
end

-- A conversation of a shape that the number says, with contents at random.
local function drawn(draw, shape)
  local function text() return text_of(draw, 6) end
  local messages = {}
  local function add(message) messages[#messages + 1] = message end
  if shape % 2 == 1 then add { role = "system", content = text() } end
  add { role = "user", content = text() }
  if shape % 4 >= 2 then
    local calls = json.array()
    calls[1] = { id = "call00001", type = "function", ["function"] = { name = "n" .. draw(9),
      arguments = { first = text(), second = { draw(99), text() } } } }
    add { role = "assistant", content = "", tool_calls = calls }
    add { role = "tool", tool_call_id = "call00001", content = text() }
  end
  add { role = "assistant", content = text(), reasoning_content = shape % 8 >= 4 and text() or nil }
  return record_of(messages, shape % 4 >= 2 and { { type = "function", ["function"] = { name = "look", description = text(),
    parameters = { type = "object" } } } } or nil)
end

-- What was written of each field, and what the template wrote.
local function sources_of(text)
  local by, own, order = {}, {}, {}
  for part, from in traced.stretches(text) do
    if from and from.generated then from = from.of end
    if from then
      local path = ("%s:%s"):format(tostring(from.message), from:path())
      if not by[path] then by[path], order[#order + 1] = "", { from, path } end
      by[path] = by[path] .. part
    else
      own[#own + 1] = part
    end
  end
  return by, table.concat(own, "\0"), order
end

local function value_at(record, from)
  if from.above then
    local above = value_at(record, from.above)
    return type(above) == "table" and above[type(from.name) == "number" and from.name + 1 or from.name] or nil
  end
  if not from.message then return record[from.field] end
  local message = record.messages[from.message]
  return from.field == "content" and message.content or message.own[from.field]
end

-- Is this what a template may make of a text: the text, without white space at its ends, as JSON, with or without quotes?
local function fits(written, value)
  if type(value) ~= "string" then return true end  -- signs and keys of JSON: looked at as a whole
  local forms = { value, value:match "^%s*(.-)%s*$", value:gsub("^\n+", ""), (value:gsub("^\n+", ""):gsub("\n+$", "")) }
  for _, form in ipairs(forms) do
    local quoted = json.encode(form):gsub("\\u0009", "\\t")
    for _, once in ipairs { form, quoted, quoted:sub(2, -2) } do
      if written == once or written == once:rep(2) then return true end
    end
  end
  return false
end

return {
  { "texts and masks of published templates", function()
    local count = { equal = 0, refused = 0, masks = 0, unsayable = 0 }
    for _, t in ipairs(templates) do
      local tok = tokenizer_of(t)
      for _, case in ipairs(t.cases) do
        local given, what = head.conversations[case.name], t.name .. ": " .. case.name
        local record = record_of(given.messages, null_or(given.tools))
        local r = rendered(record, tok)
        if case.text == json.null then
          count.refused = count.refused + 1  -- some that are refused there are taken in another form here
        else
          expect.same(r and traced.bare(r:text()), case.text, what)
          count.equal = count.equal + 1
          local segments = template.own():segments(record, tok)
          count.unsayable = count.unsayable + (segments and 0 or 1)
          if segments and case.learned ~= json.null then
            expect.same(shown(segments), marked(case.text, case.learned), what)
            count.masks = count.masks + 1
          end
        end
      end
    end
    expect.same(count, { equal = 223, masks = 47, refused = 17, unsayable = 78 })
  end },

  { "random cuts of templates never raise", function()
    local draw, taken = draws(3), 0
    for _, t in ipairs(templates) do
      local record = drawn(draw, draw(8) - 1)
      for _ = 1, 25 do
        local text, at = t.template, draw(#t.template)
        local tok = tokenizer_of(t)
        tok.chat_template = text:sub(1, at) .. ({ "", "{", "%}", "'", "{{ messages }}", "|", "{% generation %}" })[draw(7)]
          .. text:sub(at + draw(4))
        local segments, why = template.own():segments(record, tok)
        if segments then taken = taken + 1 else expect.truthy(type(why) == "string" and #why > 0, t.name) end
      end
    end
    expect.truthy(taken > 50, taken)
  end },

  { "each character comes from where it came from", function()
    local draw, seen = draws(7), 0
    for _, t in ipairs(templates) do
      local tok = tokenizer_of(t)
      for shape = 0, 7 do
        local words
        for _ = 1, 4 do
          local record = drawn(draw, shape)
          local r = rendered(record, tok)
          if r then
            local by, own, order = sources_of(r:text())
            for _, entry in ipairs(order) do
              local value = value_at(record, entry[1])
              if not fits(by[entry[2]], value) then
                error(("%s: of %s %q there is %q"):format(t.name, entry[2], value, by[entry[2]]))
              end
              seen = seen + 1
            end
            words = words or own
            expect.same(own, words, t.name .. ": the template's words")  -- whatever the contents are
          end
        end
      end
    end
    expect.truthy(seen > 2000, seen)
  end },
}
