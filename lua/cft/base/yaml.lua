--- The YAML that heads of cards are written in: mappings, sequences, and scalars, in block and in flow style, with
-- comments and quotes. What else there is (anchors, tags, texts by `|` and `>`, several documents) is an error, never a
-- guess. Scalars are strings, but for true and false; null is nil.
-- @module cft.base.yaml
-- @usage print(require("cft.base.yaml").parse("a: [1, {b: 'c'}]").a[2].b)   --> c

local M = {}

local escapes = { n = "\n", t = "\t", ["\\"] = "\\", ['"'] = '"', ["/"] = "/", [" "] = " " }
local constants = { ["true"] = true, ["True"] = true, ["TRUE"] = true, ["false"] = false, ["False"] = false,
                    ["FALSE"] = false }
local nulls = { ["null"] = true, ["Null"] = true, ["NULL"] = true, ["~"] = true, [""] = true }

local function fail(line, what) error({ line = line, what = what }, 0) end

local function plain(text)
  if nulls[text] then return nil end
  if constants[text] ~= nil then return constants[text] end
  return text
end

-- A quoted scalar that begins at `at`, and where it ends.
local function quoted(text, at, line)
  if text:sub(at, at) == "'" then
    local out, next_at = {}, at + 1
    repeat
      local part, after = text:match("^([^']*)'()", next_at)
      if not part then fail(line, "a quote is not closed") end
      out[#out + 1], next_at = part, after + 1
    until text:sub(after, after) ~= "'"
    return table.concat(out, "'"), next_at - 1
  end
  local out, i = {}, at + 1
  while true do
    local part, stop, after = text:match('^([^"\\]*)(["\\])()', i)
    if not part then fail(line, "a quote is not closed") end
    out[#out + 1] = part
    if stop == '"' then return table.concat(out), after end
    out[#out + 1] = escapes[text:sub(after, after)] or fail(line, "an escape that is not known here")
    i = after + 1
  end
end

-- White space, line breaks and comments before what comes next in flow style.
local function skip(text, at)
  repeat
    local before = at
    at = text:match("^%s*()", at)
    if text:sub(at, at) == "#" and text:find("^%s", at - 1) then at = text:match("^[^\n]*()", at) end
  until at == before
  return at
end

local flow

local function flow_scalar(text, at, line)
  if text:find("^['\"]", at) then return quoted(text, at, line) end
  local stop = at
  while not text:find("^[,%[%]{}\n]", stop) and not text:find("^:[%s,%]}]", stop) and not text:find("^%s#", stop) do
    if stop > #text then fail(line, "a [ or { is not closed") end
    stop = stop + 1
  end
  local value = text:sub(at, stop - 1):match "^(.-)%s*$"
  if value == "" or value:find "^[&*!|>%%@`]" then fail(line, "not understood") end
  return plain(value), stop
end

-- A value in flow style, and where it ends.
function flow(text, at, line)
  local open = text:match("^[%[{]", at)
  if not open then return flow_scalar(text, at, line) end
  local close, out, value = open == "[" and "]" or "}", {}, nil
  at = skip(text, at + 1)
  while text:sub(at, at) ~= close do
    if open == "{" then
      local key
      key, at = flow_scalar(text, at, line)
      at = skip(text, at)
      if key == nil or text:sub(at, at) ~= ":" then fail(line, "a key without a value") end
      value, at = flow(text, skip(text, at + 1), line)
      out[key] = value
    else
      out[#out + 1], at = flow(text, at, line)
    end
    at = skip(text, at)
    if text:sub(at, at) == "," then
      at = skip(text, at + 1)
    elseif text:sub(at, at) ~= close then
      fail(line, "a [ or { is not closed")
    end
  end
  return out, at + 1
end

-- Lines with their indent, without those that are empty or a comment.
local function lines_of(text)
  local lines, number = {}, 0
  for line in (text:gsub("\r\n", "\n") .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    local indent, rest = line:match "^( *)(.-)%s*$"
    if rest ~= "" and rest:sub(1, 1) ~= "#" then
      lines[#lines + 1] = { indent = #indent, text = rest, number = number }
    end
  end
  return lines
end

-- Key and what is behind its colon; nil where a line is no entry of a mapping.
local function entry(text, line)
  if text:find "^['\"]" then
    local key, after = quoted(text, 1, line)
    local rest = text:match("^%s*:%s+(.*)$", after) or text:match("^%s*:$", after) and ""
    if rest then return key, rest end
    return nil
  end
  local key, rest = text:match "^([^%[{#&*!|>%%@`][^:#]-)%s*:%s+(.*)$"
  if key then return key, rest end
  key = text:match "^([^%[{#&*!|>%%@`][^:#]-)%s*:$"
  return key, key and ""
end

-- A value that begins in the middle of line i: its rest, and lines below it that are deeper than `indent`.
local function inline(lines, i, rest, indent)
  local number, parts, k = lines[i].number, { rest }, i + 1
  while lines[k] and lines[k].indent > indent do
    parts[#parts + 1], k = lines[k].text, k + 1
  end
  local text = table.concat(parts, "\n")
  if text:find "^[%[{'\"]" then
    local value, at = flow(text .. "\n", 1, number)
    if skip(text, at) <= #text then fail(number, "text behind a value") end
    return value, k
  end
  text = text:gsub("%s#[^\n]*", ""):gsub("%s*\n%s*", " "):gsub("%s+$", "")
  if text:find "^[&*!|>%%@`]" or text:find ":%s" then fail(number, "not understood") end
  return plain(text), k
end

local block

-- What a key or a dash is followed by: in its line, or below it.
local function value_of(lines, i, rest, indent, in_mapping)
  rest = rest:gsub("^#.*$", "")
  if rest ~= "" then return inline(lines, i, rest, indent) end
  local below = lines[i + 1]
  local dashes = below and in_mapping and below.indent == indent and below.text:find "^%-%f[%s%z]"
  if below and (below.indent > indent or dashes) then return block(lines, i + 1) end
  return nil, i + 1
end

-- The value whose first line is i, and the line behind it.
function block(lines, i)
  local indent, out = lines[i].indent, {}
  if lines[i].text:find "^%-%f[%s%z]" then
    while lines[i] and lines[i].indent == indent and lines[i].text:find "^%-%f[%s%z]" do
      local spaces, rest = lines[i].text:match "^%-(%s*)(.*)$"
      if entry(rest, lines[i].number) or rest:find "^%-%s" then
        lines[i] = { indent = indent + 1 + #spaces, text = rest, number = lines[i].number }
        out[#out + 1], i = block(lines, i)
      else
        out[#out + 1], i = value_of(lines, i, rest, indent)
      end
    end
  elseif entry(lines[i].text, lines[i].number) then
    while lines[i] and lines[i].indent == indent do
      local key, rest = entry(lines[i].text, lines[i].number)
      if not key then fail(lines[i].number, "no key") end
      if out[key] ~= nil then fail(lines[i].number, "a key twice") end
      out[key], i = value_of(lines, i, rest, indent, true)
    end
  else
    return inline(lines, i, lines[i].text, indent - 1)
  end
  if lines[i] and lines[i].indent > indent then fail(lines[i].number, "a line too far in") end
  return out, i
end

--- Read a text.
-- @string text
-- @return tables, strings, booleans; nil for an empty text, or where it is not understood
-- @treturn ?string then: the line, and why; nil for an empty text
function M.parse(text)
  local lines = lines_of(text)
  if #lines == 0 then return nil end
  local ok, value, after = pcall(block, lines, 1)
  if not ok and tostring(value):find "stack overflow" then return nil, "it is too deep" end
  if not ok and type(value) ~= "table" then error(value, 0) end
  if ok and not lines[after] then return value end
  local line, what = ok and lines[after].number or value.line, ok and "a line too far out" or value.what
  return nil, ("line %d: %s"):format(line, what)
end

return M
