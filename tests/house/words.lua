-- Words of the field: phrases that stood here for a term that everybody knows do not come back. Prose is looked at: pages,
-- comments, and strings of more than one word; names of settings, fields and functions are what they are.

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

-- Lua patterns of what is found, and the term that is meant; then what the pattern finds and may stand.
local phrases = {
  { "rounded by chance", "stochastic rounding" }, { "rounding by chance", "stochastic rounding" },
  { "by_chance", "stochastic rounding" }, { "computed again", "recomputed" }, { "two means", "moments" },
  { "%f[%w]whence%f[%W]", "where ... from, origin" },
  { "[^%w.:$_']updates?[^%w(_']", "optimizer step", "update of a run of weights", "clip, update", "rule update  elements",
    "bf16 updates", "updates nothing", "the update, in every", "the update, and what clips", "updates far below" },
  { "learned tokens?", "loss tokens" }, { "learned rows?", "rows with loss weight" },
  { "learned text", "text with loss weight" }, { "learned end", "end token with loss weight" },
  { "%f[%w]is learned", "has loss weight" }, { "%f[%w]are learned", "have loss weight" },
  { "not learned", "without loss weight" }, { "be learned", "be trained on" }, { "%%d learned", "loss tokens" },
  { "%d learned", "loss tokens" },
  { "%f[%w]doors?%f[%W]", "boundary, entry point" }, { "%f[%w]rooms%f[%W]", "folders" },
  { "%f[%w]the room%f[%W]", "the folder, the space" }, { "%f[%w]each room%f[%W]", "each folder" },
  { "%f[%w]a room%f[%W]", "a folder" }, { "%f[%w]no room [^ft]", "no folder" },
  { "%f[%w]blam", "report as, name the line", "base.blame", "base/blame", "--blame" },
  { "%f[%w]guilty", "what failed" }, { "%f[%w]innocent", "another" }, { "%f[%w]culprit", "what is wrong" },
  { "%f[%w]it is none%f[%W]", "it is not one" }, { "that is none%f[%W]", "not one, malformed" },
  { "%f[%w]is none of", "is not one of", "there is none of" }, { "%f[%w]they are none", "they are not" },
  { "walked back", "backward" }, { "walks? back", "backward" }, { "walking back", "backward" },
  { "turned over", "transposed" }, { "%f[%w]dear%f[%W]", "costly" }, { "%f[%w]settles?%f[%W]", "chooses, finishes" },
  { "noted aloud", "said, counted" }, { "afresh", "again" }, { "takes? that back", "undoes it" },
}

-- What of a line is prose, in small letters: all of a page but `code`, the comment and the strings of source text.
local comment_of = { lua = "%-%-", c = "//", h = "//", cu = "//", cuh = "//", cpp = "//", py = "#", sh = "#" }
local function prose(line, kind)
  if kind ~= "md" then
    local mark = comment_of[kind]
    local at = line:find(mark)
    local texts = { at and line:sub(at) or "" }
    for text in (at and line:sub(1, at - 1) or line):gmatch '"([^"]*)"' do
      if text:find "%l %l" then texts[#texts + 1] = text end
    end
    line = table.concat(texts, " | ")
  end
  return " " .. line:gsub("`[^`]*`", ""):lower() .. " "
end

local function found()
  local list = {}
  local pipe = assert(io.popen("find lua runtime kernels docs recipes tests scripts README.md CHANGES.md -type f "
    .. "-not -path 'tests/golden/*' -not -path 'tests/fixtures/*'"))
  for path in pipe:lines() do
    local kind = path:match "%.(%w+)$"
    if (kind == "md" or comment_of[kind]) and path ~= "tests/house/words.lua" then
      local number, fenced = 0, false
      for line in (read(path) .. "\n"):gmatch "(.-)\n" do
        number = number + 1
        if kind == "md" and line:find "^%s*```" then fenced = not fenced end
        local text = not fenced and prose(line, kind) or ""
        for _, p in ipairs(phrases) do
          local rest = text
          for i = 3, #p do rest = rest:gsub(p[i]:gsub("%p", "%%%0"), "") end
          if rest:find(p[1]) then list[#list + 1] = ("%s:%d: say %s: %s"):format(path, number, p[2], line) end
        end
      end
    end
  end
  pipe:close()
  return list
end

return {
  { "terms of the field stand where phrases of our own stood", function()
    local list = found()
    if #list > 0 then error(table.concat(list, "\n"), 0) end
  end },
  { "prose is what a person reads: pages, comments, strings of several words", function()
    local function same(line, kind, wanted)
      local got = prose(line, kind)
      if got ~= " " .. wanted .. " " then error(("%q is %q, wanted %q"):format(line, got, wanted), 0) end
    end
    same("An update of `update()`", "md", "an update of ")
    same('blame("no Update here")  -- the Room', "lua", "-- the room | no update here")
    same('x = { updates = "update" }', "lua", "")
    same('fail("token %d is learned");  // why', "c", "// why | token %d is learned")
  end },
}
