--- Examples of the reference: the one that shows a function, and what it finds at hand. Each runs as it is typed at the
-- prompt, what is at hand before it; the value behind `-->` is what the prompt shows, "..." standing for anything.
-- @module cft.prompt.examples
-- @usage require("cft.prompt.examples").prelude { "tok:size()" }   --> { "source = ...", "tok = ..." }

local M = {}

--- Names that examples use without making them, and what makes each: in order, for one may need those before it.
M.at_hand = {
  { "folder", 'os.tmpname() .. "-cft"' },  -- nothing is there yet
  { "path", 'os.tmpname() .. ".jsonl"' },
  { "source", "cft.data.generate(3, cft.demo.training(1))" },
  { "mixed", "cft.mix.new { { source, epochs = 2 }, { source:range(0, 1) } }" },
  { "tok", "cft.demo.words(source)" },
  { "chat", "cft.template.qwen()" },
  { "samples", "cft.samples.new(source, chat, tok)" },
  { "batches", "cft.batch.new(samples, { batch = 2, tokens = 512, seed = 1 })" },
  { "model", 'cft.models.new { arch = "llama", d = 8, layers = 1, heads = 2, ffn = 16, vocab = tok:size() }' },
  { "cfg", 'cft.config.read({ steps = 2, batch = 2, tokens = 512, lr = 1e-3, device = "cpu", dtype = "f32", '
    .. 'out = folder }, {})' },
  { "run", 'cft.recipe.prepare(cfg, { name = "mine", load = function() return source:range(0, 2), source:range(2) end, '
    .. 'tokenizer = cft.demo.words, model = { arch = "llama", d = 8, layers = 1, heads = 2, ffn = 16 } })' },
}

-- ---- what an example says ----------------------------------------------------------------------

-- Lua without strings and comments, in which names can be looked for.
local function bare(lines)
  local list = {}
  for i, line in ipairs(lines) do
    list[i] = line:gsub('\\"', ""):gsub('"[^"]*"', '""'):gsub("'[^']*'", "''"):gsub("%-%-.*$", "")
  end
  return table.concat(list, "\n")
end

--- Does an example call a function or method of this name?
-- @tab lines
-- @string name
-- @treturn bool
function M.calls(lines, name)
  local text, word = bare(lines), "[.:]" .. name:gsub("%p", "%%%0")
  return text:find(word .. "%s*[%({\"']") ~= nil or text:find("pcall%([%w_.]*" .. word .. "%f[^%w_]") ~= nil
end

-- Is a name used, and not made, in a text of Lua?
local function uses(text, name)
  if text:find("local [%w_, ]*%f[%w_]" .. name .. "%f[^%w_]") or text:find("%f[^\n%z]" .. name .. "%s*=[^=]") then
    return false
  end
  for before, after in text:gmatch("(.?)%f[%w_]" .. name .. "%f[^%w_]%s*(=?=?)") do
    if not before:find "[.:]" and after ~= "=" then return true end
  end
  return false
end

--- What an example needs in front of it: lines of `at_hand`.
-- @tab lines of the example
-- @treturn {string,...}
function M.prelude(lines)
  local text, list = "\n" .. bare(lines), {}
  for i = #M.at_hand, 1, -1 do
    local name, making = M.at_hand[i][1], M.at_hand[i][2]
    if uses(text, name) then
      table.insert(list, 1, name .. " = " .. making)
      text = text .. "\n(" .. making .. ")"
    end
  end
  return list
end

-- ---- which example -----------------------------------------------------------------------------

--- The examples in a source: what stands behind each `@usage`, up to the next tag or the end of the comment.
-- @tab lines of the source
-- @treturn {table,...} a list of lines each, with `at`, the line of the source where it begins
function M.blocks(lines)
  local list, block = {}, nil
  for i, line in ipairs(lines) do
    local first, comment = line:match "^%s*%-%- @usage%s?(.*)$", line:match "^%s*%-%-%s?(.*)$"
    if first then
      block = { at = i, first }
      list[#list + 1] = block
    elseif block and comment and not comment:find "^@" then
      block[#block + 1] = comment
    else
      block = nil
    end
  end
  return list
end

local kept = setmetatable({}, { __mode = "k" })

--- The example of a function: its own, else the first one of its source that calls it.
-- @tab doc its docstring, as `cft.prompt.reference` has it
-- @tab lines its source
-- @treturn ?{string,...}
function M.of(doc, lines)
  if #doc.usage > 0 then return doc.usage end
  kept[lines] = kept[lines] or M.blocks(lines)
  for _, block in ipairs(kept[lines]) do
    if M.calls(block, doc.name) then return block end
  end
end

return M
