-- Reads one page of a list of tasks, newest first. Entries whose task has expired are taken off this list.
-- KEYS: 1 list
-- ARGV: 1 score and 2 id of the entry to continue after ('' = begin), 3 how many tasks, 4 how many entries to read,
--       5 states as ',pending,failed,' ('' = any), 6 tool ('' = any), 7 bytes of an outcome up to which it is sent,
--       8 kinds of outcome as ',succeeded,crashed,' ('' = any)
-- Returns: {{score, id} to continue after, or false at the end of the list,
--           {id, record as name, value..., outcome of a failed task or false, tasks ahead or -1, score}...}
-- Events: none
local most, budget = tonumber(ARGV[3]), tonumber(ARGV[4])
local rows, to_delete, last = {}, {}, false

-- Redis orders entries of one score by their bytes; Lua's `<` would use the locale.
local function sorts_before(a, b)
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then
      return a:byte(i) < b:byte(i)
    end
  end
  return #a < #b
end

local function names(list, word)
  return list == '' or list:find(',' .. word .. ',', 1, true)
end

local function wanted(status, tool, reason)
  return names(ARGV[5], status) and names(ARGV[8], outcome_kind(status, reason)) and (ARGV[6] == '' or ARGV[6] == tool)
end

local function row(id, score, status, queue, lane)
  local outcome, ahead = false, -1
  if status == TO.fail and redis.call('STRLEN', K.result(id)) <= tonumber(ARGV[7]) then
    outcome = redis.call('GET', K.result(id))
  elseif status == TO.create then
    ahead = ahead_of(id, { queue = queue, lane = lane })
  end
  return { id, redis.call('HGETALL', K.record(id)), outcome, ahead, score }
end

-- Whether the page may continue after this entry.
local function visit(id, score)
  if score == ARGV[1] and not sorts_before(id, ARGV[2]) then
    return true
  end
  local field = redis.call('HMGET', K.record(id), 'status', 'tool', 'queue', 'lane', 'reason')
  if not field[1] then
    to_delete[#to_delete + 1] = id
  elseif wanted(field[1], field[2], field[5]) then
    if #rows == most then
      return false
    end
    rows[#rows + 1] = row(id, score, field[1], field[3], field[4])
  end
  last, budget = { score, id }, budget - 1
  return budget > 0
end

local function read_entries()
  local from, seen, chunk = ARGV[1] == '' and '+inf' or ARGV[1], 0, 100
  while true do
    local entries = redis.call('ZREVRANGEBYSCORE', KEYS[1], from, '-inf', 'WITHSCORES', 'LIMIT', seen, chunk)
    for i = 1, #entries, 2 do
      if not visit(entries[i], entries[i + 1]) then
        return last
      end
    end
    if #entries < 2 * chunk then
      return false
    end
    seen = seen + chunk
  end
end

local next_page = read_entries()
if #to_delete > 0 then
  redis.call('ZREM', KEYS[1], unpack(to_delete))
end
return { next_page, rows }
