--- Line charts as SVG, drawn by attributes and classes alone: they need no script and follow the page's colours.
-- @module cft.report.svg

local curve = require "cft.report.curve"
local format = require "cft.base.format"
local page = require "cft.report.page"

local M = {}

M.STYLE = [[
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: .5rem 1.5rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .9rem; } svg.chart { display: block; width: 100%; height: auto; }
.chart text { fill: var(--soft); font-size: 13px; } .chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .c1 { stroke: var(--one); } .chart .c2 { stroke: var(--two); stroke-dasharray: 5 3; }
.chart path.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .chart .b1 { fill: var(--one); opacity: .18; }
.chart .b2 { fill: var(--two); opacity: .18; } .chart .d1 { fill: var(--one); } .chart .d2 { fill: var(--two); }
.chart .hit { fill: transparent; } .chart .hit:hover { fill: var(--line); opacity: .45; }
.swatch { display: inline-block; width: 1.6rem; height: .4rem; vertical-align: middle; margin-right: .5rem; }
.swatch line { stroke-width: 5; } .swatch .c1 { stroke: var(--one); }
.swatch .c2 { stroke: var(--two); stroke-dasharray: 8 4; }
]]

local WIDTH, HEIGHT = 400, 200
local LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 24  -- around the plot
local BUCKETS = 160                            -- of a curve; what lies in one is drawn as a band
local HITS = 40                                -- places that say their values when they are pointed at

-- Tokens or steps: 200k, and not 200.0k.
local function count(v) return (format.count(v):gsub("%.0+(%a)", "%1")) end

local function range_of(series)
  local r = { x_low = math.huge, x_high = -math.huge, low = math.huge, high = -math.huge }
  for _, s in ipairs(series) do
    for _, p in ipairs(s.thin) do
      r.x_low, r.x_high = math.min(r.x_low, p.x), math.max(r.x_high, p.x)
      r.low, r.high = math.min(r.low, p.low), math.max(r.high, p.high)
    end
  end
  r.ticks = curve.ticks(r.low, r.high)
  r.x_ticks = curve.ticks(r.x_low, r.x_high, 4)
  r.low, r.high = r.ticks[1], r.ticks[#r.ticks]
  if r.x_high <= r.x_low then r.x_low, r.x_high = r.x_low - 1, r.x_high + 1 end
  return r
end

local function scale(r)
  return function(x) return LEFT + (x - r.x_low) / (r.x_high - r.x_low) * (WIDTH - LEFT - RIGHT) end,
         function(y) return HEIGHT - BOTTOM - (y - r.low) / (r.high - r.low) * (HEIGHT - TOP - BOTTOM) end
end

local function axes(r, x_of, y_of)
  local out = {}
  for _, v in ipairs(r.ticks) do
    local y = y_of(v)
    out[#out + 1] = ("<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f /><text x=%d y=%.1f text-anchor=end>%s</text>"):format(
      LEFT, WIDTH - RIGHT, y, y, LEFT - 5, y + 4, curve.label(v))
  end
  for _, v in ipairs(r.x_ticks) do
    local x = x_of(v)
    if v >= r.x_low and x <= WIDTH - RIGHT then
      out[#out + 1] = ("<text x=%.1f y=%d text-anchor=middle>%s</text>"):format(
        math.max(LEFT, math.min(x, WIDTH - RIGHT - 12)), HEIGHT - 6, count(v))
    end
  end
  return table.concat(out)
end

-- The line of a series, and what lies around it where many points were made one.
local function lines_of(s, n, x_of, y_of)
  local line, upper, lower, band = {}, {}, {}, false
  for i, p in ipairs(s.thin) do
    line[i] = ("%.1f,%.1f"):format(x_of(p.x), y_of(p.y))
    upper[i] = ("%.1f,%.1f"):format(x_of(p.x), y_of(p.high))
    lower[#s.thin + 1 - i] = ("%.1f,%.1f"):format(x_of(p.x), y_of(p.low))
    band = band or p.high > p.low
  end
  local out = {}
  if band then
    out[1] = ("<path class=b%d d='M%s L%s Z'/>"):format(n, table.concat(upper, " L"), table.concat(lower, " L"))
  end
  out[#out + 1] = ("<path class='curve c%d' d='M%s'/>"):format(n, table.concat(line, " L"))
  if s.dots or #s.thin == 1 then
    for _, p in ipairs(s.thin) do
      out[#out + 1] = ("<circle class=d%d cx=%.1f cy=%.1f r=2.6 />"):format(n, x_of(p.x), y_of(p.y))
    end
  end
  return table.concat(out)
end

-- Columns that say what stands above them.
local function hits(series, x_name, r, x_of)
  local columns, out = {}, {}
  for n, s in ipairs(series) do
    for _, p in ipairs(curve.thin(s.points, HITS)) do
      local c = math.min(HITS - 1, math.floor((p.x - r.x_low) / (r.x_high - r.x_low) * HITS))
      columns[c] = columns[c] or {}
      columns[c][n] = ("%s%s %s: %s"):format(#series > 1 and s.name .. ", " or "", x_name, count(p.last.x),
        curve.label(p.last.y))
    end
  end
  local wide = (WIDTH - LEFT - RIGHT) / HITS
  for c = 0, HITS - 1 do
    local says = {}
    for n = 1, #series do says[#says + 1] = columns[c] and columns[c][n] end
    if #says > 0 then
      out[#out + 1] = ("<rect class=hit x=%.1f y=%d width=%.1f height=%d><title>%s</title></rect>"):format(
        LEFT + c * wide, TOP, wide, HEIGHT - TOP - BOTTOM, page.escape(table.concat(says, "\n")))
    end
  end
  return table.concat(out)
end

local function words(title, series, x_name)
  local parts = {}
  for _, s in ipairs(series) do
    local first, last, low = s.points[1], s.points[#s.points], math.huge
    for _, p in ipairs(s.points) do low = math.min(low, p.y) end
    parts[#parts + 1] = ("%s%s at %s %s, %s at %s, lowest %s"):format(#series > 1 and s.name .. ": " or "",
      curve.label(first.y), count(first.x), x_name, curve.label(last.y), count(last.x), curve.label(low))
  end
  return title .. ": " .. table.concat(parts, "; ")
end

--- A chart of one or two series.
-- @string title
-- @tab series a list of `{ name =, points = }`, points as `{ x =, y = }` in order of x; `dots` marks each
-- @string x_name what x is
-- @treturn ?string HTML; nil where there is no point
function M.chart(title, series, x_name)
  local drawn = {}
  for i, s in ipairs(series) do
    if #s.points > 0 then
      drawn[#drawn + 1] = { name = s.name, points = s.points, dots = s.dots, n = s.n or i,
                            thin = curve.thin(s.points, BUCKETS) }
    end
  end
  if #drawn == 0 then return nil end
  local r = range_of(drawn)
  local x_of, y_of = scale(r)
  local out, ends = {}, {}
  for i, s in ipairs(drawn) do
    out[i] = lines_of(s, s.n, x_of, y_of)
    ends[i] = curve.label(s.points[#s.points].y)
  end
  return ("<figure><figcaption>%s: %s</figcaption>\n<svg class=chart viewBox='0 0 %d %d' role=img aria-label='%s'>%s%s%s</svg>"
    .. "</figure>"):format(page.escape(title), table.concat(ends, " / "), WIDTH, HEIGHT, page.escape(words(title, drawn, x_name)),
      axes(r, x_of, y_of), table.concat(out), hits(drawn, x_name, r, x_of))
end

--- The mark of series n in a legend.
function M.swatch(n)
  return ("<svg class=swatch viewBox='0 0 26 5' aria-hidden=true><line class=c%d x1=0 x2=26 y1=2.5 y2=2.5 /></svg>"):format(n)
end

return M
