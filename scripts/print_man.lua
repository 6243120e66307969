-- The manual page of cftrun, from docs/cli.md:  cftrun scripts/print_man.lua > cftrun.1 && man -l cftrun.1

local host = require "cft.host"

-- Words of Markdown as roff has them: code bold, links their text, what roff would take for its own escaped.
local function words(text)
  text = text:gsub("%[([^%]]*)%]%b()", "%1"):gsub("\\|", "|"):gsub("\\", "\\e"):gsub("%-", "\\-")
  text = text:gsub("`([^`]*)`", "\\fB%1\\fR"):gsub("%*%*([^*]+)%*%*", "\\fB%1\\fR"):gsub("^([.'])", "\\&%1")
  return text
end

local function cells(line)
  local list = {}
  line = line:gsub("^|%s*", ""):gsub("\\|", "\1")
  for cell in line:gmatch "([^|]*)|" do list[#list + 1] = (cell:gsub("\1", "|"):match "^%s*(.-)%s*$") end
  return list
end

-- A row: its first cell is the term, the others are said of it, the last of four by the name of its column.
local function put_row(out, row, head)
  out[#out + 1] = ".TP\n" .. words(row[1])
  local said = {}
  for i = 2, #row do
    local name = i == #head and #head > 3 and head[i] .. ": " or ""
    if row[i] ~= "" then said[#said + 1] = name .. row[i] end
  end
  out[#out + 1] = words(table.concat(said, ". "))
end

local function page(lines)
  local out = {
    (".TH CFTRUN 1 \"\" \"cft %s\" \"User Commands\""):format(host.version),
    ".SH NAME\ncftrun \\- Critique Fine\\-Tuning from a recipe in Lua",
  }
  local head, code, paragraph = nil, false, true
  for i, line in ipairs(lines) do
    local title, name = line:match "^(#+)%s+(.*)$"
    if line:match "^```" then
      code = not code
      out[#out + 1] = code and ".PP\n.nf" or ".fi"
    elseif code then
      out[#out + 1] = (line:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("^([.'])", "\\&%1"))
    elseif title then
      out[#out + 1] = #title == 1 and ".SH SYNOPSIS" or (#title == 2 and ".SH " or ".SS ") .. words(name)
      paragraph = true
    elseif line:match "^|[-|%s]+|$" or line:match "^<!%-%-" then
      paragraph = true
    elseif line:match "^|" then
      if not head then head = cells(line) else put_row(out, cells(line), head) end
    elseif line:match "^    %S" then
      local first, last = not (lines[i - 1] or ""):match "^    %S", not (lines[i + 1] or ""):match "^    %S"
      if first then out[#out + 1] = ".PP\n.nf" end
      out[#out + 1] = words(line:sub(5))
      if last then out[#out + 1] = ".fi" end
    elseif line == "" then
      head, paragraph = nil, true
    else
      if paragraph then out[#out + 1] = ".PP" end
      out[#out + 1], paragraph = words(line), false
    end
    if not line:match "^|" then head = nil end
  end
  return table.concat(out, "\n") .. "\n"
end

local lines = {}
for line in io.lines "docs/cli.md" do lines[#lines + 1] = line end
io.write(page(lines))
