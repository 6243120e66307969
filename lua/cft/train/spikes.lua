--- Outliers of loss and gradient norm: what is far above the steps before it, and what becomes of such a step.
--
-- Far above: more than `factor` times the spread above the median of the latest steps that were made. The spread is
-- the median distance from the median, as that of a normal distribution (times 1.4826), and at least a fiftieth of it.

local M = {}

local WINDOW, LEAST = 64, 16  -- steps that are looked back on; and as many there must be

local Spikes = {}
Spikes.__index = Spikes

--- @string policy "skip", "reduce" or "stop" @number factor
function M.new(policy, factor)
  return setmetatable({ policy = policy, factor = factor, losses = {}, norms = {} }, Spikes)
end

local function median(values)
  local list = { unpack(values) }
  table.sort(list)
  local n = #list
  return n % 2 == 1 and list[(n + 1) / 2] or (list[n / 2] + list[n / 2 + 1]) / 2
end

local function limit_of(values, factor)
  if #values < LEAST then return nil end
  local middle, distances = median(values), {}
  for i, v in ipairs(values) do distances[i] = math.abs(v - middle) end
  return middle + factor * math.max(1.4826 * median(distances), middle / 50), middle
end

--- Is this step an outlier? @number loss @number norm both finite
-- @treturn ?table nil where it is not one; `what` ("loss" or "norm"), `value`, `limit`, and `typical`, the median norm
function Spikes:judge(loss, norm)
  local of_norm, typical = limit_of(self.norms, self.factor)
  local of_loss = limit_of(self.losses, self.factor)
  if of_norm and norm > of_norm then return { what = "norm", value = norm, limit = of_norm, typical = typical } end
  if of_loss and loss > of_loss then return { what = "loss", value = loss, limit = of_loss, typical = typical } end
end

local function push(list, value)
  list[#list + 1] = value
  if #list > WINDOW then table.remove(list, 1) end
end

--- A step that was made as it is, and is one of those that later ones are compared with.
function Spikes:accept(loss, norm)
  push(self.losses, loss)
  push(self.norms, norm)
end

--- What a checkpoint keeps of it. @treturn table
function Spikes:state() return { losses = self.losses, norms = self.norms } end

--- Go on from there. @tab state of `state`
function Spikes:restore(state)
  for _, name in ipairs { "losses", "norms" } do
    self[name] = {}
    for _, v in ipairs(type(state[name]) == "table" and state[name] or {}) do
      if type(v) == "number" then push(self[name], v) end
    end
  end
end

return M
