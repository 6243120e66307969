-- JSON: values there and back, hostile texts, values that JSON does not have.
local ffi = require "ffi"
local json = require "cft.base.json"
local expect = require "tests.expect"

local function reads(text, value)
  return { "reads " .. text:sub(1, 50), function() expect.same(json.decode(text), value) end }
end
local function rejects(name, text, message)
  return { "rejects " .. name, function() expect.fails(message, json.decode(text)) end }
end
local function writes(text, value, opts)
  return { "writes " .. text:sub(1, 50), function() expect.same(json.encode(value, opts), text) end }
end
local function refuses(name, value, message)
  return { "refuses " .. name, function() expect.raises(message, json.encode, value) end }
end

local cycle = { name = "x" }
cycle.list = { 1, { again = cycle } }

return {
  { "what is no regular file is refused: a pipe would wait, and /dev/zero never end", function()
    local process = require "tests.process"
    local folder = process.folder()
    os.execute(("mkfifo '%s/config.json'"):format(folder))
    for _, path in ipairs { folder .. "/config.json", "/dev/zero" } do
      expect.same({ json.read(path) }, { nil, path .. ": is no regular file" })
    end
  end },
  reads('{"a": [1, 2.5, -3e2], "b": {"c": true}, "d": "x"}',
        { a = { 1, 2.5, -300 }, b = { c = true }, d = "x" }),
  reads("7", 7), reads('"x"', "x"), reads(" \t\r\n[ ]\n", {}), reads("false", false),
  reads("9007199254740992", 2 ^ 53), reads("-9007199254740991", -(2 ^ 53 - 1)),
  reads("123456789012345678901234567890", 123456789012345678901234567890),  -- as a double
  reads('"\\u00e9\\ud83d\\ude00\\n"', "é😀\n"),
  reads('"a\\u0000b"', "a\0b"),
  reads('{"a": 1, "a": 2}', { a = 2 }),  -- the last one, as everywhere
  { "the order of keys and which numbers are floats are kept where the text asks for it", function()
    local text = '{"tools": 1, "b": {"z": 8.0, "a": 8, "m": [1, 2.0, 2.5]}, "tools": 2}'
    local plain, kept = json.decode(text), json.decode(text, nil, '"tool')
    expect.same(kept, plain)
    expect.same({ json.keys(plain), json.is_float(plain.b, "z") }, { nil, false })
    expect.same({ json.keys(kept), json.keys(kept.b) }, { { "tools", "b" }, { "z", "a", "m" } })
    expect.same({ json.is_float(kept.b, "z"), json.is_float(kept.b, "a"), json.is_float(kept.b.m, 2), json.is_float(kept.b.m, 1) },
      { true, false, true, false })
    expect.truthy(json.is_array(kept.b.m) and not json.is_array(kept.b))
    expect.same(json.encode(kept), json.encode(plain))
    expect.same(json.keys(json.decode(text, nil, "nothing")), nil)
    -- an integer that no int64 holds is read as a double all the same
    local big = json.decode('{"tool": 123456789012345678901234567890, "a": 1.0}', nil, "")
    expect.same({ big.tool, json.keys(big), json.is_float(big, "a") }, { 123456789012345678901234567890, { "tool", "a" }, false })
    expect.fails("not JSON at byte", json.decode('{"tool": ', nil, '"tool'))
  end },
  { "numbers are written as they were spelled, where they still are the same", function()
    local text = [[{"a":8.0,"b":[1e-06,{"c":1.0E+2,"d":"1.0"}],"e":1000000000000000019884624838656,"f":-0.0,"g \\\" 5":5.0]]
      .. [[,"h":"x\\","i":2.0}]]
    local value, spellings = json.decode(text), json.spellings(text)
    expect.same(json.encode(value, { spellings = spellings }), text)
    value.a, value.b[2].d, value.new = 9, 1, 3
    value["e"], value["g \\\" 5"], value.h = nil, nil, nil
    expect.same(json.encode(value, { spellings = spellings }),
                '{"a":9,"b":[1e-06,{"c":1.0E+2,"d":1}],"f":-0.0,"i":2.0,"new":3}')
    expect.same(json.encode({ x = 8, y = 8, z = 0.5, n = json.null, l = json.array() },
                            { floats = { x = true, z = true } }), [[{"l":[],"n":null,"x":8.0,"y":8,"z":0.5}]])
    expect.same(json.spellings '{"a', nil)
  end },
  { "a text that looks like a spelling stays a text", function()
    local value = { a = "\0018.0", ["\0015"] = "b\"\0016", c = "\001\0017", d = "\\", e = json.array { "\0011" } }
    local text = json.encode(value, { floats = { q = true } })
    expect.same(json.decode(text), value)
    expect.same(text, json.encode(value))
    expect.same(json.encode(json.decode(text), { spellings = json.spellings(text) }), text)
  end },
  { "reads null as json.null", function()
    local v = json.decode '[null, {"a": null}]'
    expect.same(v[1], json.null)
    expect.same(v[2].a, json.null)
    expect.same(tostring(json.null), "null")
    expect.same(json.decode "null", json.null)
  end },
  { "tells arrays from objects", function()
    local v = json.decode '{"a": [], "o": {}}'
    expect.same({ json.is_array(v.a), json.is_array(v.o), json.is_array(v) }, { true, false, false })
    expect.same(json.encode(v), '{"a":[],"o":{}}')
  end },
  { "reads memory that is no string", function()
    local text = 'xx{"a":[1,"é"]}yy'
    local bytes = ffi.new("uint8_t[?]", #text, text)
    expect.same(json.decode(bytes + 2, #text - 4), { a = { 1, "é" } })
    expect.same(json.decode(bytes + 2, 14LL), { a = { 1, "é" } })
    expect.fails("byte 0", json.decode(bytes, 0))
    expect.fails("byte 0 .line 1.: unable to decode byte 0xff",
                 json.decode(ffi.new("uint8_t[4]", 0xff, 0xff, 0xff, 0xff), 4))
  end },
  { "reads 100,000 records and leaves nothing behind", function()
    local parts = {}
    for i = 1, 100000 do parts[i] = ('{"id":%d,"text":"record %d"}'):format(i, i) end
    local list = json.decode("[" .. table.concat(parts, ",") .. "]")
    expect.same(#list, 100000)
    expect.same(list[99999], { id = 99999, text = "record 99999" })
  end },

  rejects("nothing", "", "not JSON at byte 0"),
  rejects("a stray comma", '{"a": 1,}', "not JSON at byte 9 .line 1.: string or '}' expected near '}'"),
  rejects("a broken line", '{"a": 1,\n "b": tru }', "line 2.: invalid token near 'tru'"),
  rejects("text behind the value", "[1] x", "end of file expected near 'x'"),
  rejects("a cut text", '{"a": [1, 2', "byte 11"),
  rejects("invalid UTF-8", '["ab\xff"]', "byte 4 .line 1.: unable to decode byte 0xff"),
  rejects("an overlong form", '["\xc0\x80"]', "unable to decode byte 0xc0"),
  rejects("a lone surrogate", '["\\ud800"]', "invalid Unicode"),
  rejects("a NUL byte", '["a\0b"]', "control character 0x0"),
  rejects("a NUL in a key", '{"a\\u0000": 1}', "NUL byte in object key"),
  rejects("a huge number", "[1e999]", "real number overflow"),
  rejects("deep nesting", ("["):rep(100000), "maximum parsing depth"),
  { "reads nesting up to 2000", function()
    local v, depth = json.decode(("["):rep(2000) .. ("]"):rep(2000)), 0
    while v do v, depth = v[1], depth + 1 end
    expect.same(depth, 2000)
  end },

  writes('{"a":1,"b":[1,2,3],"c":{"d":true}}', { c = { d = true }, b = { 1, 2, 3 }, a = 1 }),
  writes("[]", json.array()), writes("{}", {}), writes("null", json.null), writes("7", 7),
  writes('"\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u0000/é😀"', '"\\\b\f\n\r\t\1\0/é😀'),
  writes("[9007199254740992,-9007199254740992,0.1,1e+300,-0.5]", { 2 ^ 53, -2 ^ 53, 0.1, 1e300, -0.5 }),
  writes("[0.30000000000000004,4.94065645841247e-324,1.7976931348623157e+308]",
         { 0.1 + 0.2, 5e-324, 1.7976931348623157e308 }),
  writes('{"step":1,"loss":2,"a":3}', { a = 3, loss = 2, step = 1 }, { order = { "step", "loss", "lr" } }),
  writes('{\n  "a": [\n    1,\n    {}\n  ],\n  "b": []\n}', { a = { 1, {} }, b = json.array() }, { indent = 2 }),
  { "what is written reads back equal", function()
    local value = { list = { 1, "x", false, { y = -1e-7 } }, empty = json.array(), text = "\0\1é\"\\" }
    expect.same(json.decode(json.encode(value)), value)
    expect.same(json.decode(json.encode(value, { indent = 3 })), value)
    expect.same(json.encode(json.decode "-0"), "-0")
  end },

  refuses("nan", { loss = { 1, 0 / 0 } }, "json.encode: a number is nan, which JSON does not have, at .loss%[2%]$"),
  refuses("infinity", -1 / 0, "a number is infinite, which JSON does not have$"),
  refuses("a function", { f = print }, "a value is a function, which JSON does not have, at .f$"),
  refuses("cdata", { n = 1LL }, "a value is a cdata"),
  refuses("a hole", { 1, nil, 3, nil, nil, 6 }, "an array has holes; put json.null there"),
  refuses("names and positions", { 1, a = 2 }, "a table has both names and positions"),
  refuses("odd keys", { [true] = 1 }, "a key is a boolean; keys are strings, or 1, 2, ...$"),
  refuses("a fractional key", { [1.5] = 1 }, "an array has holes"),
  refuses("bytes that are no text", { a = "ab\xff" }, "a string is not UTF%-8 at its byte 2, at .a$"),
  refuses("a surrogate", "\xed\xa0\x80", "not UTF%-8 at its byte 0"),
  refuses("a cycle", cycle, "nested deeper than 512; is it a cycle%?, at .list%[2%].again.list"),
  { "an unknown option is refused", function()
    expect.raises("json.encode: unknown option 'indnt'; did you mean 'indent'", json.encode, 1, { indnt = 2 })
  end },

  { "what is near a mistake is shown without control characters", function()
    expect.fails("near '\\x1b'", json.decode "{\"a\": \27[31mab")
    for _, text in ipairs { "[\255\27", "\0\1\2", "{\"a\" \194\155x", "[tru\194", "[" .. ("三"):rep(200) } do
      local value, why = json.decode(text)
      expect.fails("^not JSON at byte", value, why)
      expect.same(why:find "[%z\1-\31\127]", nil)
      expect.same(why:find "\194\155", nil)
    end
  end },

  { "files: missing, a folder, broken", function()
    expect.fails("no/such/file: No such file", json.read "no/such/file")
    expect.fails("tests: Is a directory", json.read "tests")
    expect.fails("tests/run.lua: not JSON at byte", json.read "tests/run.lua")
  end },
}
