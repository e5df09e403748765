-- Takes due tasks for one worker: new ones, and those whose lease has lapsed (their worker is presumed dead). What it has
-- finished comes first, as in finish.lua.
-- KEYS: 1 what the last claim on this track of its worker took
-- ARGV: 1 queue names, separated by commas, in the order in which they are looked at, 2 worker, 3 lease ms, 4 how many,
--       5 crashes allowed, 6 turn, or '' for a claim that is not repeated, 7 how many tasks it has finished,
--       8... id, fence, move, outcome, reason of each of these,
--       ... ids to take instead of the heads of the queues (they must be due as well)
-- Returns: {now ms, ms until something is due (-1 = nothing queued), {id, fence, attempt, crashes, failures, tool,
--           principal, ms until it must have ended or -1}..., {arguments...} in the same order,
--           {'finished' | 'already' | 'lost' | an error, for each it has finished}}
-- The same turn again, after a lost reply, is answered with the tasks it took the first time.
-- Events: complete, claim, reclaim; fail, also for a task whose workers keep dying, overdue for one whose time is up
local now, precise = clock()
local worker, lease, room, patience = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local turn, taken, ids, args = ARGV[6], {}, {}, {}
local named = 8 + 5 * ARGV[7] -- the first id to take, if there are any
local name, queue, next_due = nil, nil, math.huge -- of the queue that is looked at
local lanes_moved, put_off, gone = false, 0, {}
local ASKED = { 'status', 'fence', 'seq', 'updated_ms', 'attempt', 'crashes', 'failures', 'tool', 'started_ms', 'worker',
  'deadline_ms', 'principal', 'lane' }
local lease_end, leases = digits(now + lease), {} -- of tasks just taken: score, id, again and again

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

-- Moves the tasks just taken behind the line, to the end of their leases.
local function begin_leases()
  if #leases > 0 then
    redis.call('ZADD', queue, unpack(leases))
    leases = {}
  end
end

-- Ends a due task, and lets nobody see it in its queue again.
local function give_up(id, move, facts)
  local was = load(id, unpack(ENDING))
  lanes_moved = was.lane or lanes_moved
  settle(id, was, moment_of(was, now), move, facts)
  clear_away()
end

-- Takes a due task. A delayed one that is not `lined_up` only gets its place in line.
local function take(id, lined_up)
  local was = fields(id, ASKED)
  if was.deadline_ms and tonumber(was.deadline_ms) <= now and may('overdue', was.status) then
    give_up(id, 'overdue', { 'reason', 'deadline' })
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
  if not lapsed and not lined_up then
    lanes_moved = was.lane or lanes_moved
    line_up(id, fields(id, STANDING), now) -- its delay is over
    return
  end
  local at, crashes = moment_of(was, now), (was.crashes or 0) + (lapsed and 1 or 0)
  if crashes > patience then
    give_up(id, 'fail', { 'crashes', crashes, 'reason', 'poisoned' })
    return
  end
  local rate = was.lane and redis.call('HGET', K.record(id), 'rate')
  local later = rate and too_soon(was.lane, rate, now)
  if later then
    put_off = put_off + 1
    later = later + put_off * STEP -- they keep their order
    next_due = math.min(next_due, later)
    redis.call('ZADD', queue, later, id)
    return
  end
  local fence, attempt = next_fence(was.fence), was.attempt + 1
  local again = attempt > 1 and { 'due_ms', '', 'reason', '' } or {}
  if not was.started_ms then
    again[#again + 1], again[#again + 2] = 'started_ms', digits(at)
  end
  append(id, was, at, lapsed and 'reclaim' or 'claim',
    { 'fence', digits(fence), 'attempt', digits(attempt), 'crashes', digits(crashes), 'worker', worker }, again)
  leases[#leases + 1], leases[#leases + 2] = lease_end, id
  redis.call('PSETEX', K.in_progress(id), ARGV[3], digits(fence))
  hand_over(id, was, fence, attempt, crashes)
  if rate and rate:sub(-5) == 'start' then
    lanes_moved = true
    leave_lane(id, was.lane, now) -- the rate counts starts, not what runs
  end
end

-- Forgets how far the line has come when nobody is left in it.
local function forget_line(more)
  if not more and not lanes_moved then
    gone[#gone + 1] = K.pace(name)
  end
end

-- Whether a queue may have more that is due, from MOMENT on, than this part of it shows in its order.
local function hides_some(head, left)
  if #head > 2 * left then
    return true
  end
  for i = 2, #head, 2 do
    local due = tonumber(head[i])
    if due >= MOMENT and due <= precise then
      return true
    end
  end
  return false
end

-- Leases that have lapsed come before the line, delays that are over go into it. Whether there were any.
local function take_lapsed()
  local lapsed = redis.call('ZRANGEBYSCORE', queue, MOMENT, precise, 'LIMIT', 0, room - #ids)
  for _, id in ipairs(lapsed) do
    take(id)
  end
  begin_leases()
  return #lapsed > 0
end

-- Takes what is due at the head of the queue; what it has room for.
local function take_from_head()
  local before, left, served, more = #ids, room - #ids, false, false
  -- One more than there is room for: when it is due tells whether, and when, to come again.
  local head = redis.call('ZRANGE', queue, 0, left, 'WITHSCORES')
  if hides_some(head, left) and take_lapsed() then
    left = room - #ids
    head = redis.call('ZRANGE', queue, 0, left, 'WITHSCORES')
  end
  for i = 1, #head, 2 do
    local due = tonumber(head[i + 1])
    if due <= precise and i < 2 * left then
      take(head[i], true)
      served = due < MOMENT and due or served
    else
      next_due = math.min(next_due, due)
      more = more or due < MOMENT
    end
  end
  begin_leases()
  if #ids > before then
    next_due = math.min(next_due, now + lease)
  end
  if more and served then
    move_on(K.pace(name), served)
  end
  forget_line(more)
end

local function take_named()
  for i = named, #ARGV do
    local score = tonumber(redis.call('ZSCORE', queue, ARGV[i]) or math.huge)
    if score <= precise then
      take(ARGV[i], true)
      if score < MOMENT then
        move_on(K.pace(name), score)
      end
    end
  end
  begin_leases()
end

local finished = finish_all(now, 8, named - 1)
local given = turn ~= '' and redis.call('GET', KEYS[1])
local repeated = given and given:match('^%S+') == turn
local wait = math.huge
if repeated then
  repeat_turn(given)
end
for each in ARGV[1]:gmatch('[^,]+') do
  name, queue, next_due = each, K.queue(each), math.huge
  if not repeated and #ARGV >= named then
    take_named()
  elseif not repeated then
    take_from_head()
  end
  if repeated or #ARGV >= named or lanes_moved then -- whoever left a lane may have let somebody in
    next_due = tonumber(redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2]) or math.huge
    forget_line(next_due < MOMENT)
  end
  if next_due <= precise then
    wake(name) -- more than this worker can take: an idle one should look too
  else
    gone[#gone + 1] = K.wake(name)
  end
  if #gone > 0 then
    redis.call('DEL', unpack(gone))
    gone = {}
  end
  wait = math.min(wait, next_due)
end
if #ids > 0 then
  args = redis.call('MGET', unpack(args))
  if turn ~= '' and not repeated then
    redis.call('SET', KEYS[1], turn .. ' ' .. table.concat(ids, ' '), 'PX', lease)
  end
end
return { now, wait == math.huge and -1 or math.max(0, math.ceil(wait - precise)), taken, args, finished }
