--- Keys and values of what was read already, in pages: the memory of generation.
--
-- A page is `M.PAGE` rows of each layer's buffer. A sequence lists the pages that its tokens stand in, in order;
-- several sequences may list the same page. Who owns which page is `cft.generate.pages`' business.

local inputs = require "cft.nn.inputs"
local kernels = require "cft.engine.kernels"
local tensor = require "cft.engine.tensor"

local M = {}
local Cache = {}
Cache.__index = Cache

-- Tokens of a page: what attention's kernels walk over in one piece.
M.PAGE = 32

-- Bytes of a page in all layers. @tab c config of the model @int size bytes of an element
function M.page_bytes(c, size) return M.PAGE * 2 * c.kv_heads * c.head_dim * size * c.layers end

-- @tab c config of the model @int pages how many @tab o `dtype`, `device`, `spare`: rows behind the pages, of no sequence
function M.new(c, pages, o)
  local self = setmetatable({ c = c, pages = pages, layers = {}, device = o.device }, Cache)
  local width = c.kv_heads * c.head_dim
  self.blocks = {}  -- of each layer, what C is told of its weights
  for i = 0, c.layers - 1 do
    self.layers[i] = tensor.empty({ pages * M.PAGE + (o.spare or 0), 2 * width }, { dtype = o.dtype, device = o.device }):keep()
  end
  return self
end

function Cache:release()
  for i = 0, self.c.layers - 1 do self.layers[i]:release() end
end

-- Copy what is in a page to another. @int from @int to pages, from 0
function Cache:copy_page(from, to)
  tensor.scope(function()
    for i = 0, self.c.layers - 1 do
      tensor.narrow(self.layers[i], 0, to * M.PAGE, M.PAGE)
        :copy_(tensor.narrow(self.layers[i], 0, from * M.PAGE, M.PAGE))
    end
  end)
end

-- How much there is of everything in a list of work.
local function sizes(work)
  local n, pages, longest_q, longest_k = 0, 0, 0, 0
  for _, w in ipairs(work) do
    n, pages = n + w.count, pages + math.ceil((w.from + w.count) / M.PAGE)
    longest_q, longest_k = math.max(longest_q, w.count), math.max(longest_k, w.from + w.count)
  end
  return n, pages, longest_q, longest_k
end

-- What a forward pass over new tokens needs. Keys and values of tokens 1 to `from` of each sequence are in its pages,
-- and those of the `count` tokens that follow are put there.
-- @tab work a list of { `ids`, `from`, `count`, `pages` }; pages are numbers from 0, enough for from + count tokens
-- @tab last rows of the pass, from 0, whose hidden states are wanted, as often as they are wanted
-- @treturn table as `cft.nn.inputs.put` gives it, with `cache`, and `last` on the device
function Cache:place(work, last)
  local n, count, longest_q, longest_k = sizes(work)
  local ids, positions, place = inputs.ints(n), inputs.ints(n), inputs.ints(n)
  local cu_q, cu_pages, k_len = inputs.ints(#work + 1), inputs.ints(#work + 1), inputs.ints(#work)
  local pages, row, at_page = inputs.ints(count), 0, 0
  for i, w in ipairs(work) do
    for position = w.from, w.from + w.count - 1 do
      ids[row], positions[row] = w.ids[position + 1], position
      place[row] = w.pages[math.floor(position / M.PAGE) + 1] * M.PAGE + position % M.PAGE
      row = row + 1
    end
    for p = 1, math.ceil((w.from + w.count) / M.PAGE) do
      pages[at_page] = w.pages[p]
      at_page = at_page + 1
    end
    cu_q[i], cu_pages[i], k_len[i - 1] = row, at_page, w.from + w.count
  end
  local rows = inputs.ints(math.max(#last, 1))
  for i, r in ipairs(last) do rows[i - 1] = r end
  local function i32(buffer, size) return tensor.from_host(buffer, { size }, "i32", { device = self.device }) end
  local owner = {}
  local at = { n = n, owner = owner, cache = self, ids = i32(ids, n), positions = i32(positions, n),
               place = i32(place, n), last = i32(rows, #last), position_end = longest_k }
  at.layout = inputs.paged_layout({ cu_q = i32(cu_q, #work + 1), cu_pages = i32(cu_pages, #work + 1),
                                    pages = i32(pages, count), k_len = i32(k_len, #work), page = M.PAGE,
                                    longest_q = longest_q, longest_k = longest_k }, owner)
  return at
end

-- A decoder block over new tokens and their sequences, whose keys and values are put into the cache.
-- @tab at of `place`, placed by the model @int layer from 0 @tab group the block's weights
-- @tparam Tensor x (n, d) @tparam ?Tensor branch (n, d): the residual stream is x + branch
-- @treturn Tensor the stream @treturn Tensor what the block adds to it
function M.block(at, layer, group, x, branch)
  local cache = at.cache
  at.step = at.step or inputs.paged_step(at)
  cache.blocks[layer] = cache.blocks[layer] or inputs.block_weights(group, cache.c)
  local y, sum = kernels.block_paged(x, branch, cache.layers[layer], cache.blocks[layer], at.step)
  return sum, y
end

return M
