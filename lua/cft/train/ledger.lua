--- The ledger of a run: mean -log p of loss tokens by kind of segment, and of samples by their verdict.

local mask = require "cft.samples.mask"

local M = {}

local function enter(ledger, name, sum, tokens)
  local e = ledger[name] or { sum = 0, tokens = 0 }
  ledger[name] = e
  e.sum, e.tokens = e.sum + sum, e.tokens + tokens
end

--- Enter the tokens of a micro-batch.
-- @tab ledger name → { sum, tokens }; gets them
-- @tab micro the micro-batch @param values -log p of each row of the head @tab at the batch on the device
-- @bool[opt] context all rows have reached the head, and kinds that have no loss weight are entered as well
function M.enter(ledger, micro, values, at, context)
  local b = micro.batch
  local cu = at.cu_rows or b.cu_seqlens
  local function one(i, class)
    local row = at.host_rows and at.host_rows[i] or i
    local learned = b.weights[row] ~= 0
    if learned or context and b.targets[row] >= 0 then enter(ledger, mask.kind_name(b.kinds[row]), values[i], 1) end
    if learned and class then enter(ledger, class, values[i], 1) end
  end
  for s = 0, tonumber(b.sequences) - 1 do
    local verdict = micro.verdicts and micro.verdicts[s + 1]
    local class = verdict == true and "right" or verdict == false and "wrong" or nil
    for i = cu[s], cu[s + 1] - 1 do one(i, class) end
  end
  for row = 0, context and b.cu_seqlens[0] - 1 or -1 do one(row) end  -- of shared prefixes, each once
end

--- Add what another ledger has, before either is closed.
-- @tab ledger name → { sum, tokens }; gets them @tab other the same
function M.merge(ledger, other)
  for name, e in pairs(other) do enter(ledger, name, e.sum, e.tokens) end
end

--- Sums become means.
-- @tab ledger name → { sum, tokens }
-- @treturn table the same: name → { loss, tokens }
function M.close(ledger)
  for name, e in pairs(ledger) do ledger[name] = { loss = e.sum / e.tokens, tokens = e.tokens } end
  return ledger
end

--- Add the ledger of an optimizer step to one of several.
-- @tab total name → { sum, tokens } @tab ledger as `close` returned it
function M.add(total, ledger)
  for name, e in pairs(ledger) do enter(total, name, e.loss * e.tokens, e.tokens) end
end

--- What an entry is called wherever it is printed. All losses are teacher-forced, which misleads where a model is to decide:
-- before the tokens of a verdict it has read the right critique, which says as much already.
-- @string name
-- @treturn string
function M.label(name) return name == "verdict" and "verdict (teacher-forced)" or name end

local RANK = { template = -4, system = -3, query = -2, response = -1, critique = 1, verdict = 2, ["end"] = 3, right = 5,
               wrong = 6 }

--- Sort names of entries: kinds of text in the order of a sample, then verdicts.
-- @tab names a list, which is sorted
-- @treturn table the list
function M.sort(names)
  table.sort(names, function(a, b)
    local x, y = RANK[a] or 4, RANK[b] or 4
    if x ~= y then return x < y end
    return a < b
  end)
  return names
end

-- Names of entries: kinds of text first, then samples by their verdict.
local function names_of(ledgers)
  local seen, names = {}, {}
  for _, ledger in ipairs(ledgers) do
    for name in pairs(ledger) do
      if not seen[name] then seen[name], names[#names + 1] = true, name end
    end
  end
  return M.sort(names)
end

--- Ledgers beside each other, a line an entry.
-- @tab columns a list of { head, ledger }; a ledger is name → { loss, tokens }
-- @treturn table lines; none where no ledger has an entry
function M.table(columns)
  local ledgers, head = {}, { ("  %-24s"):format "-log p a token" }
  for i, column in ipairs(columns) do
    ledgers[i], head[i + 1] = column[2] or {}, ("%12s"):format(column[1])
  end
  local lines = {}
  for _, name in ipairs(names_of(ledgers)) do
    local cells = { ("  %-24s"):format(M.label(name)) }
    for i, ledger in ipairs(ledgers) do
      cells[i + 1] = ledger[name] and ("%12.4f"):format(ledger[name].loss) or (" "):rep(12)
    end
    lines[#lines + 1] = table.concat(cells)
  end
  if #lines > 0 then table.insert(lines, 1, table.concat(head)) end
  return lines
end

return M
