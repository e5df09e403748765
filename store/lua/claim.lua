-- Takes due tasks for one worker: new ones, and those whose lease has lapsed (their worker is presumed dead).
-- KEYS: 1 queue, 2 wake list, 3 what the last claim on this lane took
-- ARGV: 1 queue name, 2 worker, 3 lease ms, 4 how many, 5 crashes allowed, 6 turn, or '' for a claim that is not repeated,
--       7... ids to take instead of the head of the queue (they must be due as well)
-- Returns: {now ms, ms until something is due (-1 = nothing queued), {id, fence, attempt, crashes, failures, tool,
--           principal, ms until it must have ended or -1}..., {arguments...} in the same order}
-- The same turn again, after a lost reply, is answered with the tasks it took the first time.
-- Events: claim, reclaim; fail for a task whose workers keep dying, overdue for one whose time is up
local now, precise = clock()
local queue, worker, lease, room, patience = KEYS[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local turn, taken, ids, args = ARGV[6], {}, {}, {}
local next_due = math.huge

local function hand_over(id, was, fence, attempt, crashes)
  ids[#ids + 1], args[#args + 1] = id, K.args(id)
  taken[#taken + 1] = { id, tonumber(fence), tonumber(attempt), tonumber(crashes or 0), tonumber(was.failures or 0),
    was.tool, was.principal, was.deadline_ms and math.max(0, was.deadline_ms - now) or -1 }
end

-- What this worker was given in the same turn before, as far as it still holds it.
local function repeat_turn(given)
  for id in given:gmatch(' (%S+)') do
    local was = load(id, 'attempt', 'crashes', 'failures', 'tool', 'principal', 'worker', 'deadline_ms')
    if was.worker == worker and may('release', was.status) then
      hand_over(id, was, was.fence, was.attempt, was.crashes)
    end
  end
end

local function take(id)
  local was = load(id, 'attempt', 'crashes', 'failures', 'tool', 'started_ms', 'worker', 'deadline_ms', unpack(ENDING))
  if was.deadline_ms and tonumber(was.deadline_ms) <= now and may('overdue', was.status) then
    settle(id, was, moment_of(was, now), 'overdue', { 'reason', 'deadline' })
    return
  end
  if parked(was) then
    next_due = math.min(next_due, PARKED)
    redis.call('ZADD', queue, parked_until(was), id) -- due by somebody else's queue writing: it has nothing to go on with
    return
  end
  local lapsed = may('reclaim', was.status)
  if not lapsed and not may('claim', was.status) then
    redis.call('ZREM', queue, id) -- ended or gone: a leftover of somebody else's queue writing
    redis.call('DEL', K.job(id), K.in_progress(id))
    return
  end
  local at, crashes = moment_of(was, now), (was.crashes or 0) + (lapsed and 1 or 0)
  if crashes > patience then
    settle(id, was, at, 'fail', { 'crashes', crashes, 'reason', 'poisoned' })
    return
  end
  local fence, attempt = was.fence + 1, was.attempt + 1
  append(id, was, at, lapsed and 'reclaim' or 'claim',
    { 'fence', fence, 'attempt', attempt, 'crashes', crashes, 'worker', worker },
    { 'due_ms', '', 'reason', '', 'started_ms', was.started_ms or at })
  redis.call('ZADD', queue, now + lease, id)
  redis.call('SET', K.in_progress(id), fence, 'PX', lease)
  hand_over(id, was, fence, attempt, crashes)
end

local given = turn ~= '' and redis.call('GET', KEYS[3])
local repeated = given and given:match('^%S+') == turn
local named = #ARGV > 6
if repeated then
  repeat_turn(given)
elseif named then
  for i = 7, #ARGV do
    local score = redis.call('ZSCORE', queue, ARGV[i])
    if score and tonumber(score) <= precise then
      take(ARGV[i])
    end
  end
else
  -- One more than there is room for: when it is due tells whether, and when, to come again.
  local head = redis.call('ZRANGE', queue, 0, room, 'WITHSCORES')
  for i = 1, #head, 2 do
    local due = tonumber(head[i + 1])
    if due <= precise and i < 2 * room then
      take(head[i])
    else
      next_due = math.min(next_due, due)
    end
  end
end
if #ids > 0 then
  next_due = math.min(next_due, now + lease)
  args = redis.call('MGET', unpack(args))
  if turn ~= '' and not repeated then
    redis.call('SET', KEYS[3], turn .. ' ' .. table.concat(ids, ' '), 'PX', lease)
  end
end
if repeated or named then
  next_due = tonumber(redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2]) or math.huge
end

local wait = next_due == math.huge and -1 or math.max(0, math.ceil(next_due - precise))
if wait == 0 then
  wake(ARGV[1]) -- more than this worker can take: an idle one should look too
else
  redis.call('DEL', KEYS[2])
end
return { now, wait, taken, args }
