--- Folders of runs for tests, as docs/run-folder.md says what is in them.
-- @module tests.report.folder

local json = require "cft.base.json"
local process = require "tests.process"

local M = {}

--- A folder with a run of `o.steps` steps (20).
-- @tab[opt] o `steps`; `lr`; `say`, a text that stands wherever a text of a run can stand; `without`, a set of names of files
-- that are left out
-- @treturn string path
function M.run(o)
  o = o or {}
  local folder, say, steps = process.folder(), o.say or "text", o.steps or 20
  local without, time = o.without or {}, 1790000000
  local function write(name, text)
    if not without[name] then process.write(folder .. "/" .. name, text) end
  end
  local lines = { json.encode { log = 1, run = "abc" .. say, started = "2026-12-01T00:00:00Z" } }
  for i = 1, steps do
    local loss = 0.5 + 4 / i
    local t = { step = i, time = time + 2 * i, tokens = 1000 * i, loss = loss, lr = o.lr or 1e-3, grad_norm = 1 / i, tok_s = 500,
                epoch = i / 10, seconds = 2, ledger = { critique = { loss = loss, tokens = 90 }, right = { loss = loss, tokens = 40 },
                verdict = { loss = loss / 9, tokens = 10 }, [say] = { loss = 1, tokens = 2 } }, ["metric " .. say] = i / 2 }
    if i % 5 == 0 then
      t.heldout_loss, t.heldout_ledger = loss + 0.1, { critique = { loss = loss + 0.1, tokens = 30 } }
    end
    lines[#lines + 1] = json.encode(t)
  end
  write("log.jsonl", table.concat(lines, "\n") .. "\n")
  write("run.json", json.encode {
    format = 1, id = "abc" .. say, recipe = { path = say .. ".lua", name = "recipe " .. say, text = "-- " .. say },
    command = { "cftrun", say, "lr=1" }, settings = { lr = { value = o.lr or 1e-3, from = "command line" }, [say] = { value = say, from = say },
    learn = { value = { 1, say }, from = "recipe" } },
    versions = { cft = "1 " .. say }, host = say, device = say, seed = 3, steps = steps,
    data = { { path = say, bytes = 12, hash = say, records = 5 } }, template = { name = say, text = say },
    model = { path = say, class = say, parameters = 1000 }, started = "2026-12-01T00:00:00Z " .. say, ended = json.null,
    status = "running" .. say, resumed = { { at_step = 7, time = say } }, changed_by_hand = false })
  write("summary.json", json.encode { heldout_loss_before = 5, steps = steps, heldout_ledger_before = { critique = { loss = 5, tokens = 30 } } })
  local function kept(at, step, loss)
    return json.encode { at = at, step = step, record = "record 1 " .. say, verdict = say, prompt = say, written = say,
                         tokens = { { say, loss }, { "b", json.null }, { say, 9 } } }
  end
  write("samples.jsonl", kept("start", 0, 5) .. "\n" .. kept("end", steps, 0.2) .. "\n")
  write("data.json", json.encode {
    name = say, plan = say, mixture = say, unlooked = say, template_report = say, refusals = { say }, notes = { say },
    contaminated = { { says = say, pairs = { { rank = 1, where = say, benchmark = say, shared = 2, equal = true, answer = false, passage = say } } } },
    sets = { {
      name = say, counts = say, template = say, half = 1, most = 2, longest = 3, verdicts = { right = 1, wrong = 2, none = 0 },
      findings = { say }, kinds = { { name = say, tokens = 1, learned = 1 } }, weights = { { say, 3 }, { "1", 2 } }, records = 1,
      samples = 1, tokens = 3, learned = 2, bad = 0, passes = 1, histograms = { { title = say, rows = { { say, 1 } } } },
      longest_samples = { { tokens = 1, where = say } }, shown = {
        { about = say, verdict = "right", length = 3, kinds = { say }, tokens = { { text = say, ids = { say, 2 }, kind = say, weight = 1 } } },
        { about = say, verdict = "none", length = 5, kinds = { say }, tokens = { { text = say, ids = { 1 }, kind = say, weight = 0 } } },
      } } } })
  return folder
end

return M
