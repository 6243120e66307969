--- A trace as a table: which op at which shape took how long, and what it could have taken.

local M = {}

local MOST_ROWS = 40  -- that are printed

-- Between the host and a device, or devices: their rate is that of a link, which nothing here measures.
local by_link = { upload = true, download = true, all_reduce = true, broadcast = true, reduce_scatter = true,
                  all_gather = true }

-- The least seconds of a call by what the device reaches; nil where that was not measured.
local function floor_of(op, dtype, c, rates)
  if not rates or by_link[op] then return nil end
  local rate = rates.flops[dtype]
  if c.flops > 0 and not rate then return nil end
  return math.max(c.flops > 0 and c.flops / rate or 0, c.bytes / rates.copy)
end

--- The floats that a trace has products in: whose rates are to be measured. @tab t of `cft.engine.trace` @treturn table a list
function M.dtypes(t)
  local seen, list = {}, {}
  for _, dtype, _, c in t:each() do
    if c.flops > 0 and (dtype == "f32" or dtype == "bf16") and not seen[dtype] then
      seen[dtype] = true
      list[#list + 1] = dtype
    end
  end
  return list
end

--- Calls of one op, dtype and shape as one row, the longest first.
-- @tab t of `cft.engine.trace`
-- @tab[opt] rates of `cft.engine.rates`
-- @treturn table a list of `op`, `dtype`, `shape`, `calls`; of all of these `seconds`, `bytes`, `flops`; `share` of the whole
-- time; `of_floor`, the floor over these seconds, nil where there is none. Its fields `seconds` and `floor` are of all rows,
-- `whole` is how long the trace lasted, `lost` how many calls are not in it
function M.rows(t, rates)
  local rows = { seconds = 0, floor = rates and 0 or nil, whole = t.ended - t.started, lost = t.lost }
  local by_name = {}
  for op, dtype, shape, c in t:each() do
    local name = op .. " " .. dtype .. " " .. shape
    local row = by_name[name]
    if not row then
      row = { op = op, dtype = dtype, shape = shape, calls = 0, seconds = 0, bytes = 0, flops = 0 }
      by_name[name], rows[#rows + 1] = row, row
    end
    local floor, seconds = floor_of(op, dtype, c, rates), c.ended - c.begun
    row.calls, row.seconds = row.calls + 1, row.seconds + seconds
    row.bytes, row.flops = row.bytes + c.bytes, row.flops + c.flops
    row.floor = floor and (row.floor or 0) + floor
    rows.seconds = rows.seconds + seconds
    if floor then rows.floor = rows.floor + floor end
  end
  for _, row in ipairs(rows) do
    row.share, row.of_floor = row.seconds / rows.whole, row.floor and row.floor / math.max(row.seconds, 1e-9)
    row.floor = nil
  end
  table.sort(rows, function(a, b)
    if a.seconds ~= b.seconds then return a.seconds > b.seconds end
    return a.op .. a.dtype .. a.shape < b.op .. b.dtype .. b.shape
  end)
  return rows
end

local function percent(part) return part and ("%.1f%%"):format(100 * part) or "" end

-- `row` may be several of the table's.
local function line(say, name, shape, row)
  say("  %-21s %-31s %6d %10.1f %7s %9.2f %9.2f %9s", name, shape, row.calls, 1e6 * row.seconds / row.calls, percent(row.share),
      row.bytes / row.calls / 1e6, row.flops / row.calls / 1e9, percent(row.of_floor))
end

--- Print a trace.
-- @tab rows of `rows`
-- @tab[opt] rates of `cft.engine.rates`
-- @func say takes a format and its values
function M.say(rows, rates, say)
  local total = 0
  for _, row in ipairs(rows) do total = total + row.calls end
  say("  %-21s %-31s %6s %10s %7s %9s %9s %9s", "op", "shape", "calls", "us each", "of time", "MB each", "GFLOP", "of floor")
  local rest = { calls = 0, seconds = 0, share = 0, bytes = 0, flops = 0 }
  for i, row in ipairs(rows) do
    if i <= MOST_ROWS then
      line(say, row.op .. (row.shape:find " B$" and "" or " " .. row.dtype), row.shape, row)
    else
      for _, field in ipairs { "calls", "seconds", "share", "bytes", "flops" } do rest[field] = rest[field] + row[field] end
    end
  end
  if rest.calls > 0 then line(say, ("%d rows more"):format(#rows - MOST_ROWS), "", rest) end
  say("  %d calls of ops: %.3f s of %.3f s, %s%s", total, rows.seconds, rows.whole, percent(rows.seconds / rows.whole),
      rates and ("; at the floor %.3f s, %s"):format(rows.floor, percent(rows.floor / rows.whole)) or "")
  if rates then
    local list = {}
    for dtype, rate in pairs(rates.flops) do list[#list + 1] = ("%.0f GFLOP/s in %s"):format(rate / 1e9, dtype) end
    table.sort(list)
    say("  floor: a large copy %.1f GB/s%s%s", rates.copy / 1e9, #list > 0 and "; " .. rates.by .. " " or "",
        table.concat(list, ", "))
  end
  if rows.lost > 0 then say("  %d calls had no place in the trace, and are neither here nor in its file", rows.lost) end
end

return M
