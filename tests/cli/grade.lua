-- `cftrun grade` as its users meet it.
local expect = require "tests.expect"
local json = require "cft.base.json"
local process = require "tests.process"

local function run(...) return process.cftrun { "grade", ... } end

local function written(records)
  local path = process.folder() .. "/answers.jsonl"
  local f = assert(io.open(path, "w"))
  for _, r in ipairs(records) do f:write(type(r) == "string" and r or json.encode(r), "\n") end
  f:close()
  return path
end

local good = {
  { response = "So \\boxed{3/6}.", reference = "0.5", label = true }, { response = "It is 7.", answer = 8, label = false },
  { prediction = "5 cm", reference = "5", label = false }, { response = "\\boxed{\\int x}", reference = "5", label = false },
}

return {
  { "rates, reasons, agreement with labels, and the records with their verdicts", function()
    local path = written(good)
    local out = path .. ".graded"
    local got = run(path, "--out", out)
    expect.same(got.code, 0)
    expect.match(got.out, "mode symbolic: 4 graded\n  right +2 +50.0%%\n")
    expect.match(got.out, "\n +1  the last box: the numbers are equal\n")
    expect.match(got.out, "\n  wrong +1 +25.0%%\n.*\n  unknown +1 +25.0%%\n")
    expect.match(got.out, "of 4 labels 75.0%% agree; of what is said to be right 50.0%% is labelled so")
    local lines = {}
    for line in io.lines(out) do lines[#lines + 1] = json.decode(line) end
    expect.same({ #lines, lines[1].verdict, lines[1].graded, lines[2].verdict }, { 4, "right", "3/6", "wrong" })
    got = run(path, "--mode", "strict")
    expect.match(got.out, "mode strict: 4 graded\n  right +1 +25.0%%")
    got = run(path, "--mode=paper", "--reference-strips", "1", "--keep-units")
    expect.match(got.out, "mode paper: 4 graded")
  end },
  { "labels: true and false in any form; what says neither is counted, and no part of any share", function()
    local got = run(written { { response = "5", reference = "5", label = "False" }, { response = "5", reference = "5", label = 1 },
                              { response = "5", reference = "5", label = "yes" }, { response = "5", reference = "5" } })
    expect.match(got.out, "of 2 labels 50.0%% agree; of what is said to be right 50.0%% is labelled so\n" ..
                 "  2 records have no label that says true or false\n")
  end },
  { "what cannot be graded is one message", function()
    local path = written(good)
    for _, row in ipairs {
      { { }, 2, "a file is wanted" }, { { path, "--mode", "lax" }, 2, "must be one of" },
      { { path, "--keep-units" }, 2, "are of the modes paper and qwen" }, { { path, "--out", path }, 2, "is the file that is read" },
      { { path, "--out", (path:gsub("/([^/]*)$", "/./%1")) }, 2, "is the file that is read" },
      { { path, "--mode", "paper", "--keep-units=no" }, 2, "--keep-units takes no value" },
      { { written { { reference = "5" } } }, 1, "record 0: it has neither a `response` nor a `prediction`" },
      { { written { { response = "5" } } }, 1, "record 0: it has neither a `reference` nor an `answer`" },
      { { written { { response = "5", prediction = "5", answer = "5" } } }, 1, "both `response` and `prediction`" },
      { { written { "5" } }, 1, "record 0: it is no object" },
    } do
      local got = run(unpack(row[1]))
      expect.same(got.code, row[2])
      expect.match(got.err, row[3]:gsub("%p", "%%%0"))
    end
    expect.match(run("--help").out, "cftrun grade FILE")
  end },
}
