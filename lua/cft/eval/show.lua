--- What a terminal sees of an evaluation: its progress, its scores, a comparison.
-- @module cft.eval.show

local benchmarks = require "cft.eval.benchmarks"
local compare = require "cft.eval.compare"
local format = require "cft.base.format"
local host = require "cft.host"
local json = require "cft.base.json"
local score = require "cft.eval.score"
local term = require "cft.base.term"
local texts = require "cft.base.text"

local M = {}

local LINES = 20  -- where nobody watches

--- A function that is told of each entry, as `cft.eval.file` tells it, and writes a line to stderr: on a
-- terminal rewritten in place, else one in twenty.
-- @tab benches @tab problems name → list
-- @func[opt] write gets texts @bool[opt] terminal is there one
function M.progress(benches, problems, write, terminal)
  write = write or function(text) io.stderr:write(text) end
  if terminal == nil then terminal = term.is_terminal(io.stderr) end
  local total, began, last, fresh, right, of = 0, host.now(), 0, 0, {}, {}
  for _, bench in ipairs(benches) do total = total + #problems[bench.name] end
  return function(entry, number, kept, ahead)
    local name = entry.bench
    right[name] = (right[name] or 0) + score.right(entry) / #entry.samples
    of[name] = (of[name] or 0) + 1
    if kept then return end
    fresh = fresh + 1
    local now, ended = host.now(), number == total
    local due = terminal and (now - last >= 0.2) or not terminal and number % math.max(1, math.floor(total / LINES)) == 0
    if not due and not ended then return end
    last = now
    -- Those that wait for the ones before them, and parts of others, are done as well: without them the first
    -- would seem to have taken all the time by itself.
    local left = total - number - (ahead or 0)
    local line = ("%s %d/%d  right %.1f%%  %d/%d in all  %s"):format(name, of[name], #problems[name], 100 * right[name] / of[name],
      number, total, ended and format.duration(now - began) or "ETA " .. format.duration((now - began) / (fresh + (ahead or 0)) * left))
    write(terminal and ("\r\27[K" .. line .. (ended and "\n" or "")) or line .. "\n")
  end
end

local function numbers(rows)
  local parts = {}
  for i, row in ipairs(rows) do parts[i] = ("%s %s"):format(row[1], score.percent(row[2], row[3])) end
  return table.concat(parts, "   ")
end

--- Print the scores of a file of results.
-- @tab result of `cft.eval.file`
function M.scores(result)
  local model = tostring(result.head.model or "no model is named")
  print(("%s, %s"):format(texts.printable(result.path or ""), texts.printable(model)))
  for _, name in ipairs(result.names) do
    local s = score.of(benchmarks.get(name, true), result.entries[name], result.head.grade)
    local notes = {}
    if result.head.selected_by == name then notes[1] = "it chose this checkpoint, so the score says too much" end
    if s.unknown > 0 then notes[#notes + 1] = ("%d not judged (unknown)"):format(s.unknown) end
    if (s.mute or 0) > 0 then notes[#notes + 1] = ("%d critiques without a verdict"):format(s.mute) end
    if s.cut > 0 then notes[#notes + 1] = ("%d cut at the bound on tokens"):format(s.cut) end
    print(("  %-16s %s   %d problems%s%s"):format(texts.printable(name), numbers(s.rows), s.problems, #notes > 0 and "; " or "",
      table.concat(notes, "; ")))
  end
end

local SETTINGS = { "grade", "template", "samples", "temperature", "top_k", "top_p", "min_p", "penalty", "max_new", "stop" }

-- How two models were asked and graded otherwise, which is a part of the difference.
local function otherwise(a, b)
  local list = {}
  for _, name in ipairs(SETTINGS) do
    local one, other = json.encode(a[name] == nil and json.null or a[name]), json.encode(b[name] == nil and json.null or b[name])
    if one ~= other then list[#list + 1] = ("%s %s and %s"):format(name, one, other) end
  end
  return list
end

--- Print how the second file compares with the first.
-- @int[opt] seed of the draws
function M.comparison(first, second, seed)
  local list = otherwise(first.head, second.head)
  if #list > 0 then print("not alike in the two files: " .. texts.printable(table.concat(list, "; "))) end
  for _, name in ipairs(first.names) do
    local other = second.entries[name]
    local r = other and compare.of(first.entries[name], other, { seed = seed })
    if r then
      print(("%s: %s"):format(texts.printable(name), r.says))
      print(("  %.1f and %.1f; the second is better on %d problems, worse on %d%s"):format(100 * r.first, 100 * r.second, r.wins,
        r.losses, r.alone > 0 and ("; %d are in one file only"):format(r.alone) or ""))
    else
      print(("%s: no problem is in both files"):format(texts.printable(name)))
    end
  end
end

return M
