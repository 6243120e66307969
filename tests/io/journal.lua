--- Journals: entries that are whole or are none, whatever a crash or a disk did to the file.

local expect = require "tests.expect"
local journals = require "cft.io.journal"
local process = require "tests.process"

local function entry(step) return { step = step, losses = { step / 3, -1e300 }, names = ("x"):rep(step * 7) } end

local function all(path)
  local j, list = assert(journals.read(path)), {}
  for value in function() return (j:next()) end do list[#list + 1] = value end
  j:close()
  return list
end

local function written(path, n)
  local j = journals.append(path, function() return true end)
  for step = 1, n do j:add(entry(step)) end
  j:sync()
  j:close()
end

local function expect_steps(path, n)
  local list = all(path)
  expect.same(#list, n)
  for i, value in ipairs(list) do expect.same(value, entry(i)) end
end

local function grows_and_is_cut_back()
  local path = process.folder() .. "/journal.msgpack"
  expect.same({ journals.read(path) }, { nil, "open " .. path .. ": No such file or directory" })
  written(path, 5)
  expect_steps(path, 5)
  local j, kept = journals.append(path, function(value) return value.step <= 3 end)
  expect.same(kept, 3)
  expect_steps(path, 3)  -- at once
  j:add(entry(4))
  expect_steps(path, 4)
  j:close()
end

-- Cut at every byte, and with every byte changed: what comes before is read, nothing that was not written.
local function torn()
  local path = process.folder() .. "/journal.msgpack"
  written(path, 4)
  local text = process.contents(path)
  local ends, at = {}, 0
  for step = 1, 4 do
    local body = #require("cft.io.state").text(entry(step), "x")
    at = at + 24 + body
    ends[step] = at
  end
  expect.same(ends[4], #text)
  local function whole_before(byte)
    local n = 0
    while ends[n + 1] and ends[n + 1] <= byte do n = n + 1 end
    return n
  end
  for n = 0, #text - 1 do
    process.write(path, text:sub(1, n))
    expect_steps(path, whole_before(n))
    local changed = text:sub(1, n) .. string.char((text:byte(n + 1) + 1) % 256) .. text:sub(n + 2)
    process.write(path, changed)
    expect_steps(path, whole_before(n))
  end
  local j, kept = journals.append(path, function() return true end)  -- the last byte is wrong: the writer mends it
  expect.same(kept, 3)
  j:add(entry(4))
  j:close()
  expect_steps(path, 4)
  expect.same(process.contents(path), text)
end

return {
  { "it grows, and is cut back where it is opened to go on", grows_and_is_cut_back },
  { "a torn or damaged entry is none, and is written over", torn },
}
