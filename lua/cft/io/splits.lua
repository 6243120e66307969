--- Which files of a data set's folder make up a split, as the library `datasets` decides it: by `configs:` in the head
-- of the card, else by the names of folders, else by those of files, else all of them are `train`.
-- @module cft.io.splits
-- @usage local splits = require "cft.io.splits"
-- local files = splits.choose({ "notes.jsonl", "train.jsonl" }, nil, nil, "train", function() return true end)
-- print(#files, files[1])   --> 1   train.jsonl

local glob = require "cft.base.glob"
local yaml = require "cft.base.yaml"

local M = {}

--- Files of a repository that describe it, and are no data.
M.no_data = {}
for _, name in ipairs { "README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json",
                        "dummy_data.zip" } do
  M.no_data[name] = true
end

local names = { "train", "validation", "test" }
local words = {
  train = { "train", "training" }, validation = { "validation", "valid", "dev", "val" },
  test = { "test", "testing", "eval", "evaluation" },
}

-- What reads files that end so. Two ends of one kind are read alike; `tsv` and the others are kinds that are not read.
local kinds = { csv = "csv", json = "json", jsonl = "json", ndjson = "json", parquet = "parquet", geoparquet = "parquet",
                gpq = "parquet" }
for _, name in ipairs { "tsv", "arrow", "txt", "conll", "conllu", "tar", "xml", "hdf5", "h5", "eval", "toml", "md",
                        "lance", "zip" } do
  kinds[name] = name
end
-- Of ends that are as frequent, the later one is taken.
local rank = { csv = 1, json = 2, jsonl = 3, arrow = 4, lance = 5, parquet = 6 }

local function base_of(path) return path:match "[^/]*$" end

local function ends_of(path)
  local ends = {}
  for word in base_of(path):gmatch "%.([^%.]*)" do
    word = word:lower()
    if kinds[word] then ends[#ends + 1] = word end
  end
  return ends
end

-- Whether a name has a word of its own, between signs or digits or at the edges.
local function has_word(name, word)
  return ("-" .. name .. "-"):find("[%-%._ 0-9]" .. word .. "[%-%._ 0-9]") ~= nil
end

local function has_any(name, split)
  for _, word in ipairs(words[split]) do
    if has_word(name, word) then return true end
  end
  return false
end

local function in_folder_names(path, split)
  for folder in path:gmatch "([^/]+)/" do
    if has_any(folder, split) then return true end
  end
  return false
end

local function in_file_name(path, split) return has_any(base_of(path), split) end

local function under_scores(path)
  local n = 0
  for folder in path:gmatch "([^/]+)/" do
    if folder:find "^__" then n = n + 1 end
  end
  return n
end

-- { split → files } by a rule; nil where none has a file.
local function splits_by(files, rule)
  local found = {}
  for _, split in ipairs(names) do
    for _, file in ipairs(files) do
      if rule(file, split) then
        found[split] = found[split] or {}
        table.insert(found[split], file)
      end
    end
  end
  return next(found) and found
end

-- By the shards of a folder `data`, of any split: data/new-00000-of-00002.parquet.
local function by_shards(files)
  local found = {}
  for _, file in ipairs(files) do
    local split = file:match "^data/([^/]+)%-%d%d%d%d%d%-of%-%d%d%d%d%d[^/]*%.[^/]*$"
    if split then
      if not split:find "^[%w_]+$" and not split:find "^[%w_][%w_%.]*[%w_]$" then
        return nil, ("'%s' of %s is no name of a split"):format(split, file)
      end
      found[split] = found[split] or {}
      table.insert(found[split], file)
    end
  end
  return next(found) and found
end

local function by_names(files)
  local visible = {}
  for _, file in ipairs(files) do
    if under_scores(file) == 0 and not M.no_data[base_of(file)] then visible[#visible + 1] = file end
  end
  local found, why = by_shards(visible)
  if found or why then return found, why end
  return splits_by(visible, in_folder_names) or splits_by(visible, in_file_name) or { train = visible }
end

-- The files that a pattern of a card stands for; nil and what is wrong with it.
local function fitting(files, pattern)
  pattern = pattern:gsub("^%./", "")
  if pattern:find "[^/]%*%*" or pattern:find "%*%*[^/]" then
    return nil, ("the pattern %s of its card: ** stands for whole folders only"):format(pattern)
  end
  local form, found = glob.pattern(pattern), {}
  for _, file in ipairs(files) do
    local base = base_of(file)
    if file:find(form) and under_scores(file) == under_scores(pattern)
      and (not M.no_data[base] or base == base_of(pattern)) then
      found[#found + 1] = file
    end
  end
  if #found == 0 and not glob.is(pattern) then
    return nil, ("its card names %s, which is not there: its download was not finished"):format(pattern)
  end
  if not glob.is(pattern) and #ends_of(pattern) == 0 then
    return nil, ("its card names %s, whose name does not end as data's do"):format(pattern)
  end
  return found
end

local function listed(value)
  if type(value) == "string" then return { value } end
  for _, one in ipairs(type(value) == "table" and value or {}) do
    if type(one) ~= "string" then return nil end
  end
  return type(value) == "table" and #value > 0 and value or nil
end

-- `data_files` of a card as { split → patterns }; nil where it has another form.
local function patterns_of(data_files)
  local train, found = listed(data_files), {}
  if train then return { train = train } end
  if type(data_files) ~= "table" then return nil end
  local items = data_files
  if #items == 0 then
    items = {}
    for split, path in pairs(data_files) do items[#items + 1] = { split = split, path = path } end
  end
  for _, item in ipairs(items) do
    local paths = type(item) == "table" and listed(item.path)
    if not paths or type(item.split) ~= "string" or found[item.split] then return nil end
    found[item.split] = paths
  end
  return next(found) and found
end

-- Files below a folder of the set, by their path from there.
local function below(files, folder)
  folder = folder:gsub("^%./", ""):gsub("/+$", "")
  if folder == "." or folder == "" then return files, "" end
  local found = {}
  for _, file in ipairs(files) do
    if file:sub(1, #folder + 1) == folder .. "/" then found[#found + 1] = file:sub(#folder + 2) end
  end
  return found, folder .. "/"
end

-- { split → files } of a configuration of a card.
local function splits_of(config, files)
  local inside, folder = below(files, config.data_dir or "")
  local found, why = {}, nil
  if config.data_files == nil then
    found, why = by_names(inside)
    if not found then return nil, why end
  else
    local patterns = patterns_of(config.data_files)
    if not patterns then return nil, "data_files of its card are not understood" end
    for split, list in pairs(patterns) do
      local there = {}
      found[split] = {}
      for _, pattern in ipairs(list) do
        local fits
        fits, why = fitting(inside, pattern)
        if not fits then return nil, why end
        for _, file in ipairs(fits) do
          if not there[file] then table.insert(found[split], file) end
          there[file] = true
        end
      end
    end
  end
  for split, list in pairs(found) do
    local whole = {}
    for _, file in ipairs(list) do
      if #ends_of(file) > 0 then whole[#whole + 1] = folder .. file end
    end
    found[split] = whole
  end
  return found
end

-- What reads a list of files: as the end that most of them have.
local function kind_of(files)
  local counts = {}
  for _, file in ipairs(files) do
    local base = base_of(file)
    local metadata = base:find "^metadata%.%a+$" ~= nil
    for _, word in ipairs(ends_of(file)) do
      counts[word] = (counts[word] or 0) + (metadata and 1e-6 or 1)
    end
  end
  local best
  for word, n in pairs(counts) do
    local other = counts[best]
    if not best or n > other or (n == other and (rank[word] or 0) > (rank[best] or 0)) then best = word end
  end
  return kinds[best]
end

-- The one kind that all splits are of.
local function one_kind(splits)
  local kind, from
  for split, files in pairs(splits) do
    local this = kind_of(files)
    if from and this ~= kind then
      return nil, ("its splits %s and %s are not files of one kind"):format(from, split)
    end
    kind, from = this, split
  end
  return kind, "it has no data"
end

-- The configurations of a card; nil and why where its head is not understood.
local function configs_of(card)
  local head = card and card:gsub("\r\n", "\n"):match "^%-%-%-\n(.-\n)%-%-%-%f[\n%z]"
  if not head then return {} end
  if not head:find "^%s*{" then  -- other keys are not looked at
    local before, part = ("\n" .. head):match "^(.-)\n(['\"]?configs['\"]?%s*:%f[%s].*)$"
    if not part then return {} end
    local lines = {}
    for line in part:gmatch "[^\n]*" do
      if #lines > 0 and line:find "^[^%s%-#]" then break end
      lines[#lines + 1] = line
    end
    local _, first = before:gsub("\n", "")
    head = ("\n"):rep(first) .. table.concat(lines, "\n")
  end
  local value, why = yaml.parse(head)
  if why then return nil, ("configs of its card (README.md) are not understood: %s"):format(why) end
  local configs = type(value) == "table" and value.configs or {}
  for _, config in ipairs(type(configs) == "table" and configs or {}) do
    if type(config) ~= "table" or type(config.config_name) ~= "string" then configs = nil break end
  end
  if type(configs) ~= "table" or (next(configs) and #configs == 0) then
    return nil, "configs of its card (README.md) are no list of config_name and data_files"
  end
  return configs
end

local function names_of(list)
  local found = {}
  for _, one in ipairs(list) do found[#found + 1] = one.config_name end
  return table.concat(found, ", ")
end

local function choose_config(configs, wanted)
  local chosen, several
  for _, config in ipairs(configs) do
    if config.config_name == wanted then return config end
    if not wanted and (#configs == 1 or config.config_name == "default" or config.default == true) then
      chosen, several = config, chosen
    end
  end
  if chosen and not several then return chosen end
  return nil, ("its configurations are: %s"):format(names_of(configs))
end

local function keys_of(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return table.concat(keys, ", ")
end

--- The files of a split.
-- @tab files all files of the folder, sorted, by their path from there
-- @string[opt] card the text of its README.md
-- @string[opt] wanted the configuration; where a card has none, files that are called so or are in a folder called so
-- @string split
-- @func reads file name → is this a file of records?
-- @treturn ?table of them; nil where there is none
-- @treturn ?string then: why
function M.choose(files, card, wanted, split, reads)
  local configs, why = configs_of(card)
  if not configs then return nil, why end
  local config, kind, found = nil, nil, nil
  if #configs > 0 then
    config, why = choose_config(configs, wanted)
    if not config then return nil, why end
    local first
    first, why = splits_of(configs[1].data_files and { data_files = configs[1].data_files } or {}, files)
    if not first then return nil, why end
    kind, why = one_kind(first)
    if not kind then return nil, why end
  elseif wanted then
    local called = {}
    for _, file in ipairs(files) do
      local base = base_of(file):gsub("%..*$", "")
      if file:find(wanted .. "/", 1, true) == 1 or base == wanted then called[#called + 1] = file end
    end
    if #called == 0 then
      return nil, ("no file of it is called as '%s' (%s) is: it has %s"):format(wanted, split,
        #files > 0 and table.concat(files, ", ", 1, math.min(#files, 8)) or "no data")
    end
    files = called
  end
  found, why = splits_of(config or {}, files)
  if not found then return nil, why end
  if not config then
    kind, why = one_kind(found)
    if not kind then return nil, why end
  end
  if not found[split] then
    return nil, ("the splits of %s are: %s"):format(config and config.config_name or wanted or "it", keys_of(found))
  end
  local chosen = {}
  for _, file in ipairs(found[split]) do
    local fits = false
    for _, word in ipairs(ends_of(file)) do fits = fits or kinds[word] == kind end
    if not fits and config then
      return nil, ("%s is among the files of %s that are read as %s"):format(file, config.config_name, kind)
    end
    if fits and not reads(base_of(file)) then return nil, ("%s is no file of records that can be read"):format(file) end
    if fits then chosen[#chosen + 1] = file end
  end
  if #chosen > 0 then return chosen end
  return nil, ("no file of it is in the split '%s' as its card tells it: its download was not finished"):format(split)
end

return M
