-- Texts: trimmed as Python trims them, and what of them a terminal may see.
local expect = require "tests.expect"
local process = require "tests.process"
local text = require "cft.base.text"

local function encode(cp)
  if cp < 0x80 then return string.char(cp) end
  local tail = {}
  local limit = 0x20  -- of what the first byte holds
  repeat
    table.insert(tail, 1, string.char(0x80 + cp % 64))
    cp, limit = math.floor(cp / 64), limit / 2
  until cp < limit * 2
  return string.char(256 - 4 * limit + cp) .. table.concat(tail)
end

-- What must not reach a terminal, said once more.
local function steers(cp)
  if cp < 32 or cp >= 127 and cp < 160 then return true end
  return cp == 0x61c or cp == 0x200e or cp == 0x200f or cp >= 0x202a and cp <= 0x202e or cp >= 0x2066 and cp <= 0x2069
end

local function escaped(bytes)
  return (bytes:gsub(".", function(c) return ("\\x%02x"):format(c:byte()) end))
end

return {
  { "printable: every code point", function()
    expect.same(encode(0x9b) .. encode(0x20ac) .. encode(0x1f600), "\194\155€😀")
    local from, wanted = {}, {}
    for cp = 0, 0x10ffff do
      if cp == 0xd800 then from[#from + 1], wanted[#wanted + 1] = "|", "|" end
      if cp < 0xd800 or cp > 0xdfff then
        local c = cp == 0 and "\0" or encode(cp)
        from[#from + 1] = c
        wanted[#wanted + 1] = cp ~= 9 and cp ~= 10 and steers(cp) and (cp == 0 and "\\x00" or escaped(c)) or c
      end
    end
    expect.truthy(text.printable(table.concat(from)) == table.concat(wanted), "all of Unicode")
  end },
  { "printable: what is no UTF-8", function()
    for _, bytes in ipairs { "\128", "\192\128", "\237\160\128", "\244\144\128\128", "\255", "\226\130", "\240\159\152" } do
      expect.same(text.printable("a" .. bytes .. "b"), "a" .. escaped(bytes) .. "b")
      expect.same(text.printable(bytes), escaped(bytes))
    end
    expect.same(text.printable "", "")
    expect.same(text.printable(text.printable "\27"), "\\x1b")
  end },
  { "quoted: one line that Lua reads back", function()
    local foreign = 'say "a\\b"\n\t\r\0\27\194\155é'
    expect.same(text.quoted(foreign), [["say \"a\\b\"\n\t\r\x00\x1b\xc2\x9bé"]])
    expect.same(loadstring("return " .. text.quoted(foreign))(), foreign)
  end },
  { "one line: breaks are written out, and length has an end", function()
    expect.same(text.one_line "a\nb\tc", "a\\x0ab\\x09c")
    expect.same(text.one_line("abcdef", 3), "abc")
    expect.same(text.one_line("aé", 2), "a\\xc3")
  end },
  { "a line of the log and the prompt do not steer the terminal", function()
    local said = [[require("cft.base.log").open():say("%s\n\t%s", "a\27[2J", "\194\155b")]]
    expect.same(process.cftrun({ "-e", said }).out, "a\\x1b[2J\n\t\\xc2\\x9bb\n")
    local r = process.cftrun { input = '"a\\194\\155b"\nerror("c\\194\\155d", 0)\n' }
    expect.match(r.out, '"a\\xc2\\x9bb"')
    expect.match(r.err, "c\\xc2\\x9bd")
    expect.same((r.out .. r.err):find("\194\155", 1, true), nil)
  end },
  { "trim: Unicode's white space, and no half of a character", function()
    expect.same(text.trim " \t\n\194\160a b\227\128\128\226\128\168", "a b")
    expect.same({ text.trim_left "\31 a ", text.trim_right " a\f\v", text.trim "", text.trim "\194\133" },
                { "a ", " a", "", "" })
    expect.same(text.trim "à", "à")  -- its last byte is that of a no-break space
  end },
}
