--- Files and folders that appear whole or not at all.
-- @module cft.io.save

local blame = require "cft.base.blame"
local door = require "cft.engine.ffi"
local safetensors = require "cft.io.safetensors"
local state = require "cft.io.state"

local C, ffi = door.C, door.ffi

local M = {}

--- A checkpoint folder on its way. Paths are relative to it.
-- @type Save
local Save = {}
Save.__index = Save

local function handle(self) return self.c or blame("%s: the save is done", self.path) end

--- Write a text.
-- @string path
-- @string text
-- @usage local save = cft.files.save(folder)
-- save:write("note.txt", "ten steps")
-- save:write_tensors("x.safetensors", { { name = "x", tensor = cft.zeros { 2 } } })
-- save:write_state("state.msgpack", { step = 10 })
-- save:folder():match "[^/]+$"
-- save:commit()
-- cft.files.read_state(folder .. "/state.msgpack").step   --> 10
function Save:write(path, text) door.check(C.cft_file_write(handle(self), path, text, #text)) end

--- As `files.write_tensors`.
-- @string path
-- @tab entries
-- @tab[opt] opts
function Save:write_tensors(path, entries, opts) safetensors.write(path, entries, opts, handle(self)) end

--- As `files.write_state`.
-- @string path
-- @param value
function Save:write_state(path, value) state.write(path, value, handle(self)) end

--- The temporary folder, where other processes may put files until `commit`.
-- @treturn string
function Save:folder() return ffi.string(C.cft_save_folder(handle(self))) end

--- The C object, for those who write through it. @treturn cdata
Save.handle = handle

--- From here on note what is to be written: `commit`, or a saver, writes it. Tensors are not copied: they stay as
-- they are until then.
-- @usage local save = cft.files.save(folder)
-- save:defer()
-- save:write("note.txt", "ten steps")  -- not yet on the disk
-- save:commit()
-- cft.files.verify(folder)   --> true
function Save:defer() C.cft_save_defer(handle(self)) end

-- The C object, which the caller releases: this one is done. @treturn cdata
function Save:give()
  local c = ffi.gc(handle(self), nil)
  self.c = nil
  return c
end

--- Write the checksums, sync, and put the folder in its place.
function Save:commit()
  local status = C.cft_save_commit(handle(self))
  local message = status ~= C.CFT_OK and ffi.string(C.cft_last_error())
  self:discard()
  if message then blame(message) end
end

--- Remove what was written so far. The collector does the same for a save that is forgotten.
-- @usage local save = cft.files.save(folder)
-- save:write("note.txt", "ten steps")
-- save:discard()
-- cft.files.verify(folder)   --> nil "...: no complete checkpoint: there is no checksums.xxh128"
function Save:discard()
  if self.c then C.cft_save_release(ffi.gc(self.c, nil)) end
  self.c = nil
end

--- Begin a folder that is to appear at `path`, or to replace what is there, when it is complete.
-- @string path
-- @treturn Save
-- @usage local save = cft.files.save(folder .. "/step-10")
-- save:write("note.txt", "ten steps")
-- save:commit()
-- print(cft.files.verify(folder .. "/step-10"))  --> true
function M.begin(path)
  local out = ffi.new "cft_save *[1]"
  door.check(C.cft_save_new(out, path))
  return setmetatable({ c = ffi.gc(out[0], C.cft_save_release), path = path }, Save)
end

--- Have `fill(save)` write a folder that is to appear at `path` when it is complete; after an error nothing is left.
function M.whole(path, fill)
  local self = M.begin(path)
  local ok, err = pcall(fill, self)
  if not ok then
    self:discard()
    error(err, 0)
  end
  self:commit()
end

--- Read a folder that `save` made against its checksums.
-- @string folder
-- @treturn ?boolean true; or nil and what is wrong: never finished, a file gone, a file changed
function M.verify(folder)
  if C.cft_save_verify(folder) == C.CFT_OK then return true end
  return nil, ffi.string(C.cft_last_error())
end

--- An error where a file that is read in place became shorter: what was read of it since is not what it held.
function M.intact() door.check(C.cft_mapping_check()) end

--- The first file that was read in place and became shorter meanwhile. @treturn ?string its path
function M.lost()
  local path = C.cft_mapping_lost()
  return path ~= nil and ffi.string(path) or nil
end

-- ---- plain files -------------------------------------------------------------------------------

--- Write a text file, whole or not at all, and wait until it is on the disk; folders above it are made.
-- @string path
-- @string text
-- @usage cft.files.write(path, "{}\n")
-- io.open(path):read "*a"   --> "{}\n"
function M.write(path, text) door.check(C.cft_file_write(nil, path, text, #text)) end

--- A file on its way: it is at its path when it is committed, whole, or never.
-- @type Writer
local Writer = {}
Writer.__index = Writer

--- Add a text. @string text
function Writer:put(text) door.check(C.cft_writer_put(handle(self), text, #text)) end

--- Sync what was put, and give it its name.
function Writer:commit()
  local status = C.cft_writer_commit(handle(self))
  local message = status ~= C.CFT_OK and ffi.string(C.cft_last_error())
  self:discard()
  if message then blame(message) end
end

--- Remove what was put. The collector does the same for a file that is forgotten.
function Writer:discard()
  if self.c then C.cft_writer_release(ffi.gc(self.c, nil)) end
  self.c = nil
end

--- Begin a file that is to be at `path`; folders above it are made. An error where it cannot be written there.
-- @string path
-- @treturn Writer
-- @usage local file = require("cft.io.save").writer(path)
-- file:put "one line\n"
-- file:commit()
-- io.open(path):read "*l"   --> "one line"
function M.writer(path)
  local out = ffi.new "cft_writer *[1]"
  door.check(C.cft_writer_new(out, nil, path))
  return setmetatable({ c = ffi.gc(out[0], C.cft_writer_release), path = path }, Writer)
end

--- Put a finished file in the place of another: sync it, rename it, sync the folder. On failure what stood at
-- `path` is as it was, and `temporary` is removed.
-- @string temporary in the same folder
-- @string path
-- @usage cft.files.write(path .. ".tmp", "new\n")
-- cft.files.replace(path .. ".tmp", path)
-- io.open(path):read "*a"   --> "new\n"
function M.replace(temporary, path) door.check(C.cft_file_replace(temporary, path)) end

--- Make `path` a link, in place of what stands there. @string target as the link says it @string path
function M.link(target, path) door.check(C.cft_link_replace(target, path)) end

--- Wait until a folder's entries are on the disk.
function M.sync(folder) door.check(C.cft_folder_sync(folder)) end

local bytes_out = ffi.new "int64_t[1]"

--- The bytes of a file; nil where there is none.
function M.size(path)
  return C.cft_path_look(path, bytes_out) == C.CFT_PATH_FILE and tonumber(bytes_out[0]) or nil
end

--- Remove a file, or a folder with all that is in it. Nothing there is fine.
-- @string path
-- @usage cft.files.write(folder .. "/a/b.txt", "x")
-- cft.files.remove(folder)
-- io.open(folder)   --> nil "...: No such file or directory" 2
function M.remove(path) door.check(C.cft_path_remove(path)) end

return M
