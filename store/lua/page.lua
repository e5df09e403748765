-- Reads one page of a list of tasks, newest first. Entries whose task has expired are taken off this list.
-- KEYS: 1 list
-- ARGV: 1 score and 2 id of the entry to continue after ('' = begin), 3 how many tasks, 4 how many entries to read,
--       5 which tasks, as JSON (`TaskFilter.as_json`), 6 bytes of an outcome up to which it is sent,
--       7 what of each: 'rows', 'entries' or 'texts', 8 the highest score of an entry to begin with ('' = any),
--       9 of 'texts': the text that is looked for, as stored ones would have it ('' = unknown): others are left out,
--       10... id, score of the entries to read, instead of the list
-- Returns: {{score, id} to continue after, or false at the end of the list, what is wanted of each task...}, which is
--           rows: {id, record as name, value..., outcome of a failed task or false, tasks ahead or -1, score}
--           entries: {id, score}
--           texts: {id, score, last message, outcome unless it succeeded or false, errors as attempt, error...}
-- Events: none
local most, budget, wanted, part = tonumber(ARGV[3]), tonumber(ARGV[4]), cjson.decode(ARGV[5]), ARGV[7]
local rows, to_delete, last_score, last_id = {}, {}, false, false

-- Redis orders entries of one score by their bytes; Lua's `<` would use the locale.
local function sorts_before(a, b)
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then
      return a:byte(i) < b:byte(i)
    end
  end
  return #a < #b
end

local function is_wanted(task)
  local created = (wanted.since or wanted['until']) and tonumber(task.created_ms)
  return (not wanted.status or wanted.status[task.status])
    and (not wanted.outcome or wanted.outcome[outcome_kind(task.status, task.reason)])
    and (not wanted.tool or wanted.tool == task.tool)
    and (not wanted.queue or wanted.queue == task.queue or wanted.queue == task.queue:match('[^/]*$'))
    and (not wanted.caller or wanted.caller == task.principal)
    and (not wanted.client or wanted.client == task.client)
    and (not wanted.since or created >= wanted.since)
    and (not wanted['until'] or created < wanted['until'])
    and (not wanted.not_rerun or not task.rerun_as)
end

-- The outcome of a task, unless it is too long; false if there is none.
local longest = tonumber(ARGV[6])
local function short_outcome(id)
  local outcome = redis.call('GETRANGE', K.result(id), 0, longest)
  return #outcome > 0 and #outcome <= longest and outcome
end

-- The fields of a record that are read of each task: a list may have many.
local NAMES = { 'status', 'reason', 'unreadable' }
for name, is_read in pairs({ tool = wanted.tool, queue = wanted.queue or part == 'rows', lane = part == 'rows', principal = wanted.caller, client = wanted.client,
  created_ms = wanted.since or wanted['until'], rerun_as = wanted.not_rerun, message = part == 'texts', attempt = part == 'texts' }) do
  NAMES[#NAMES + 1] = is_read and name or nil
end

-- How the letters begin whose small form is another letter of ASCII, such as the Kelvin sign; and an escape of JSON.
local ODD = { '\195\159', '\196\176', '\197\137', '\197\191', '\199\176', '\225\186', '\226\132\170', '\239\172', '\\u' }

-- Whether a text surely does not have the one that is looked for: it does not, and it is not sealed, and has nothing ODD.
local function surely_lacks(text)
  if text:byte(1) == 1 or text:lower():find(ARGV[9], 1, true) then
    return false
  end
  for i = 1, #ODD do
    if text:find(ODD[i], 1, true) then
      return false
    end
  end
  return true
end

-- The texts of a task, nil if they surely lack the one that is looked for.
local function texts_of(id, score, task)
  local succeeded = outcome_kind(task.status, task.reason) == 'succeeded'
  local message, outcome = task.message or '', not succeeded and short_outcome(id)
  local errors = succeeded and task.attempt == '1' and {} or redis.call('HGETALL', K.errors(id))
  local lacks = ARGV[9] ~= '' and surely_lacks(message) and (not outcome or surely_lacks(outcome))
  for i = 2, #errors, 2 do
    lacks = lacks and surely_lacks(errors[i])
  end
  return not lacks and { id, score, message, outcome, errors } or nil
end

local function row(id, score, task)
  if part == 'entries' then
    return { id, score }
  elseif part == 'texts' then
    return texts_of(id, score, task)
  end
  local outcome, ahead = task.status == TO.fail and short_outcome(id), -1
  if task.status == TO.create then
    ahead = ahead_of(id, task)
  end
  return { id, redis.call('HGETALL', K.record(id)), outcome, ahead, score }
end

-- One table for all tasks: a new one for each would be a third of the time of a long list.
local task = {}

-- Whether the page may continue after this entry.
local function visit(id, score)
  if score == ARGV[1] and not sorts_before(id, ARGV[2]) then
    return true
  end
  local values = redis.call('HMGET', K.record(id), unpack(NAMES))
  for i = 1, #NAMES do
    task[NAMES[i]] = values[i]
  end
  if task.unreadable then
    task.status, task.reason = TO.fail, 'unreadable'
  end
  if not task.status then
    to_delete[#to_delete + 1] = id
  elseif is_wanted(task) then
    if #rows == most then
      return false
    end
    rows[#rows + 1] = row(id, score, task)
  end
  last_score, last_id, budget = score, id, budget - 1
  return budget > 0
end

local function read_entries()
  local from, seen, chunk = ARGV[1] == '' and (ARGV[8] == '' and '+inf' or ARGV[8]) or ARGV[1], 0, 100
  while true do
    local entries = redis.call('ZREVRANGEBYSCORE', KEYS[1], from, wanted.since or '-inf', 'WITHSCORES', 'LIMIT', seen, chunk)
    for i = 1, #entries, 2 do
      if not visit(entries[i], entries[i + 1]) then
        return last_score and { last_score, last_id }
      end
    end
    if #entries < 2 * chunk then
      return false
    end
    seen = seen + chunk
  end
end

local function read_named()
  for i = 10, #ARGV, 2 do
    visit(ARGV[i], ARGV[i + 1])
  end
end

local next_page = false
if #ARGV > 9 then
  read_named()
else
  next_page = read_entries()
end
if #to_delete > 0 then
  redis.call('ZREM', KEYS[1], unpack(to_delete))
end
return { next_page, rows }
