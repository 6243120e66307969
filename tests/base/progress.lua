-- What a terminal shows of a run that works.

local expect = require "tests.expect"
local progress = require "cft.base.progress"

local function numbers(step, more)
  local t = { step = step, loss = 1 / step, lr = 1e-3, grad_norm = 0.5, tokens_per_s = 12345, seconds_a_step = 2, seconds = 2,
              epoch = step / 10, memory = 3 * 2 ^ 30 }
  for k, v in pairs(more or {}) do t[k] = v end
  return t
end

-- A screen: what is written to it, a clock that is set.
local function screen(o)
  local s = { text = "", time = 0 }
  o.write = function(text) s.text = s.text .. text end
  o.now = function() return s.time end
  s.p = progress.new(o)
  return s
end

local LINE = "step 3/200  loss 0.3333  lr 1.00e-03  norm 0.50  12.3k tok/s  ETA 6m34s"

return {
  { "a line on a terminal is rewritten, and is never longer than the terminal is wide", function()
    local s = screen { terminal = true, columns = 120 }
    s.p:step(numbers(3), 200)
    expect.same(s.text, "\r\27[K" .. LINE .. "  epoch 0.30  3.00 GiB")
    for columns = 20, 130 do
      local narrow = screen { terminal = true, columns = columns }
      narrow.p:step(numbers(3, { heldout_loss = nil }), 200)
      local line = narrow.text:gsub("^\r\27%[K", "")
      expect.truthy(#line < columns and (LINE .. "  epoch 0.30  3.00 GiB"):sub(1, #line) == line, line)
    end
  end },
  { "a step that was measured keeps its line; the last one ends", function()
    local s = screen { terminal = true, columns = 150 }
    s.p:step(numbers(1), 3)
    s.p:step(numbers(2, { heldout_loss = 0.25, evaluated = { b = "yes\27", accuracy = 0.123456 } }), 3)
    s.p:step(numbers(3), 3)
    expect.match(s.text, "^\r\27%[Kstep 1/3 [^\n]*\nstep 2/3 [^\n]*  ETA 2s  held out 0%.2500  accuracy 0%.1235  b yes\\x1b  epoch 0%.20  3%.00 GiB\n"
      .. "\r\27%[Kstep 3/3 [^\n]*\n$")
  end },
  { "without a terminal: all of a short run, about twenty lines of a long one, and no sign of life", function()
    for _, case in ipairs { { 50, 50 }, { 1000, 21 } } do
      local s = screen { terminal = false }
      for step = 1, case[1] do
        s.p:life("step", "micro-batch 1 of 2")
        s.p:step(numbers(step), case[1])
        s.time = s.time + 10
      end
      expect.same(select(2, s.text:gsub("[^\n]+\n", "")), case[2])
      expect.truthy(not s.text:find "micro" and not s.text:find "\r", "lines alone")
    end
  end },
  { "a sign of life comes within a second in a long step, and not in a short one", function()
    local s = screen { terminal = true, columns = 80 }
    s.p:life("step 1/9", "micro-batch 1 of 8")
    expect.same(s.text, "\r\27[Kstep 1/9  micro-batch 1 of 8  0s")
    s.text, s.time = "", 0.5
    s.p:life("step 1/9", "micro-batch 2 of 8")
    expect.same(s.text, "")
    s.time = 41
    s.p:life("step 1/9", "micro-batch 3 of 8")
    expect.same(s.text, "\r\27[Kstep 1/9  micro-batch 3 of 8  41s")
    s.text = ""
    s.p:step(numbers(1, { seconds = 50 }), 9)
    s.text = ""
    s.p:life("step 2/9", "micro-batch 1 of 8")  -- the step before was a long one
    expect.same(s.text, "\r\27[Kstep 2/9  micro-batch 1 of 8  0s  loss 1.0000")
    s.p:step(numbers(2, { seconds = 0.1 }), 9)
    s.text = ""
    s.p:life("step 3/9", "micro-batch 1 of 8")
    expect.same(s.text, "")
    s.p:close()
    expect.same(s.text, "\n")
    s.p:close()
    expect.same(s.text, "\n")
    s.text, s.time = "", 60
    s.p:life("step 3/9", "micro-batch 2 of 8")
    s.p:close()  -- of a sign of life nothing stays
    expect.same(s.text, "\r\27[Kstep 3/9  micro-batch 2 of 8  19s  loss 0.5000\r\27[K")
  end },
  { "losses that are kept for a curve are bounded, and their mean is that of the run", function()
    local s, sum = screen { terminal = false }, 0
    for step = 1, 20000 do
      sum = sum + 1 / step
      s.p:step(numbers(step), 20000)
    end
    local kept = s.p.losses
    expect.truthy(#kept > 2000 and #kept < 4096, #kept .. " are kept")
    local mean = 0
    for _, v in ipairs(kept) do mean = mean + v / #kept end
    expect.close(mean, sum / 20000, 1e-4)
  end },
}
