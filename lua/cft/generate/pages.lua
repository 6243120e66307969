--- Who holds which page of the cache, and which pages hold what: so that sequences that begin alike share them.
--
-- A page that is full is found again by the tokens from the sequence's beginning to its end: a node of a tree, whose
-- edges are a page of ids. Keys and values are a function of these tokens and of the weights alone. A page that nobody
-- holds keeps what is in it until it is needed for something else, the one that was left first before others.

local kv_cache = require "cft.nn.kv_cache"

local M = {}
local Pages = {}
Pages.__index = Pages

--- @int count how many pages there are
function M.new(count)
  local self = setmetatable({ count = count, free = {}, holders = {}, node_of = {}, idle = 0, queue = {}, first = 1, last = 0,
                              turns = 0, turn = {}, root = { children = {} } }, Pages)
  for page = count - 1, 0, -1 do self.free[#self.free + 1], self.holders[page] = page, 0 end
  return self
end

--- How many pages can be taken.
function Pages:available() return #self.free + self.idle end

-- Take a node that says nothing any more out of the tree, and those above it that then say nothing.
local function prune(node)
  while node.parent and not node.page and not node.owner and next(node.children) == nil do
    node.parent.children[node.key], node = nil, node.parent
  end
end

-- The page that was left first, of those that nobody holds. Entries of the queue whose page was taken since are passed by.
local function evict(self)
  while true do
    local entry = self.queue[self.first]
    self.queue[self.first], self.first = nil, self.first + 1
    if self.turn[entry.page] == entry.turn then
      local node = self.node_of[entry.page]
      self.turn[entry.page], self.idle = nil, self.idle - 1
      self.node_of[entry.page], node.page = nil, nil
      prune(node)
      return entry.page
    end
  end
end

-- The queue without what is passed by. A page that is found and left again and again, as that of a system message, has
-- an entry for each time, and evict comes only when all pages are in use.
local function tidy(self)
  local queue, last = {}, 0
  for i = self.first, self.last do
    local entry = self.queue[i]
    if self.turn[entry.page] == entry.turn then
      last = last + 1
      queue[last] = entry
    end
  end
  self.queue, self.first, self.last = queue, 1, last
end

--- A page for one holder, its content undefined. @treturn ?int nil if all are held
function Pages:take()
  local page = table.remove(self.free) or self.idle > 0 and evict(self) or nil
  if page then self.holders[page] = 1 end
  return page
end

--- One more holder of a page. @int page
function Pages:share(page)
  if self.holders[page] == 0 then self.turn[page], self.idle = nil, self.idle - 1 end
  self.holders[page] = self.holders[page] + 1
end

--- Whether several hold it. @int page
function Pages:shared(page) return self.holders[page] > 1 end

--- One holder less. @int page
function Pages:release(page)
  self.holders[page] = self.holders[page] - 1
  if self.holders[page] > 0 then return end
  if not self.node_of[page] then
    self.free[#self.free + 1] = page
    return
  end
  if self.last - self.first > 2 * self.count then tidy(self) end
  self.last, self.turns, self.idle = self.last + 1, self.turns + 1, self.idle + 1
  self.turn[page], self.queue[self.last] = self.turns, { page = page, turn = self.turns }
end

-- ---- what is in them -----------------------------------------------------------------------------

--- The node of a page of ids behind another node. @tab node `pages.root`, or one of these @tab ids of the sequence
-- @int number of the page in the sequence, from 0 @bool[opt] make it if it is not there
-- @treturn ?table `page`, if one holds it; `owner`, who is going to fill one
function Pages:child(node, ids, number, make)
  local key = table.concat(ids, ",", number * kv_cache.PAGE + 1, (number + 1) * kv_cache.PAGE)
  local child = node.children[key]
  if not child and make then
    child = { children = {}, parent = node, key = key }
    node.children[key] = child
  end
  return child
end

--- What stands in a full page is known from now on. A node that has a page already keeps it.
function Pages:remember(node, page)
  if node.page == nil and self.node_of[page] == nil then node.page, self.node_of[page] = page, node end
end

--- `owner` is not going to fill this node's page any more, if it was to.
function Pages:abandon(node, owner)
  if node.owner == owner then node.owner = nil end
  prune(node)
end

return M
