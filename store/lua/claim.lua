-- Takes due tasks for one worker: new ones, and those whose lease has lapsed (their worker is presumed dead). Tasks that
-- it has finished are ended first, as in finish.lua.
-- KEYS: 1 what the last claim of this sender of the worker took
-- ARGV: 1 queue names, separated by commas, in the order in which they are read, 2 worker, 3 lease ms, 4 how many, and
--       how many of these are reserved for principals that have nothing running here, if some are, with the rank in the
--       queue to look for such tasks too and the principals that do, separated by blanks (0 = take none, and let no later
--       call with the batch id take any), 5 crashes allowed, 6 batch id, or '' for a claim that is not repeated, 7 how many
--       tasks it has finished,
--       8... id, fence, move, outcome, reason of each of these,
--       ... ids to take instead of the heads of the queues (they must be due as well): from stock arq workers
-- Returns: {now ms, ms until something is due (-1 = nothing queued), {id, fence, attempt, crashes, failures, tool,
--           principal, ms until it must have ended or -1, ms for which it has waited (-1 = another worker had it, -2 = not
--           known)}..., {arguments...} in the same order,
--           where to look next time if tasks were left for want of a slot that is not reserved, else -1,
--           {'finished' | 'already' | 'lost' | 'full' | an error, for each it has finished}}
-- The same batch id again, after a lost reply, is answered with the tasks that were taken the first time.
-- Events: complete, claim, reclaim; fail, also for a task whose workers keep dying, overdue for one whose time is up
local now, precise = clock()
local worker, lease, crash_limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
local room, reserved, look_from, holders = ARGV[4]:match('^(%d+) ?(%d*) ?(%d*) ?(.*)$')
room, reserved, look_from = tonumber(room), tonumber(reserved) or 0, tonumber(look_from) or 0
local left_alone, look_next = false, -1 -- whether a task was left in the queue that is read; where to look next time
local REVOKED_FOR = 120000 -- ms, longer than a worker waits with a claim behind its wait
local WINDOW = 100 -- tasks that are looked at from one rank on
local batch_id, taken, ids, args = ARGV[6], {}, {}, {}
local first_named = 8 + 5 * ARGV[7] -- the first id to take, if there are any
local name, queue, next_due = nil, nil, math.huge -- of the queue that is being read
local lanes_changed, postponed, idle_keys = false, 0, {}
local lease_end, leases = digits(now + lease), {} -- of tasks just taken: score, id, repeated

local function add_claimed(id, task, fence, attempt, crashes, waited)
  ids[#ids + 1], args[#args + 1] = id, K.args(id)
  holders = reserved > 0 and holders .. ' ' .. task.principal or holders
  taken[#taken + 1] = { id, tonumber(fence), tonumber(attempt), tonumber(crashes or 0), tonumber(task.failures or 0),
    task.tool, task.principal, task.deadline_ms and math.max(0, task.deadline_ms - now) or -1, waited }
end

-- The tasks that this worker got by the same batch id before, as far as it still has them.
local function repeat_batch(last_claim)
  for id in last_claim:gmatch(' (%S+)') do
    local task = load(id, 'attempt', 'crashes', 'failures', 'tool', 'principal', 'worker', 'deadline_ms')
    if task.worker == worker and is_legal('release', task.status) then
      add_claimed(id, task, task.fence, task.attempt, task.crashes, -2)
    end
  end
end

-- Gives the tasks just taken the end of their lease as score, behind all positions.
local function write_leases()
  if #leases > 0 then
    redis.call('ZADD', queue, unpack(leases))
    leases = {}
  end
end

-- Ends a due task, and takes it out of its queue at once, so that this call does not read it again.
local function end_due_task(id, move, facts)
  local task = load_ending(id)
  lanes_changed = task.lane or lanes_changed
  settle(id, task, moment_of(task, now), move, facts)
  apply_removals()
end

-- What `take` needs of a record.
local function load_due(id)
  local value = redis.call('HMGET', K.record(id), 'status', 'fence', 'seq', 'updated_ms', 'attempt', 'crashes', 'failures', 'tool',
    'started_ms', 'worker', 'deadline_ms', 'principal', 'lane', 'due_ms', 'not_before_ms')
  return { status = value[1], fence = value[2], seq = value[3], updated_ms = value[4], attempt = value[5], crashes = value[6],
    failures = value[7], tool = value[8], started_ms = value[9], worker = value[10], deadline_ms = value[11],
    principal = value[12], lane = value[13], due_ms = value[14],
    not_before_ms = value[15] }
end

-- Takes a due task. A delayed one that is not `in_order` yet only gets its position.
local function take(id, in_order)
  local task = load_due(id)
  if task.deadline_ms and tonumber(task.deadline_ms) <= now and is_legal('overdue', task.status) then
    end_due_task(id, 'overdue', { 'reason', 'deadline' })
    return
  end
  if is_parked(task) then
    next_due = math.min(next_due, PARKED)
    redis.call('ZADD', queue, parked_until(task), id) -- another program made it due: it has no answers to continue with
    return
  end
  local lapsed = is_legal('reclaim', task.status)
  if not lapsed and not is_legal('claim', task.status) then
    redis.call('ZREM', queue, id) -- it has ended or expired: another program left it in the queue
    redis.call('DEL', K.job(id), K.in_progress(id))
    return
  end
  if not lapsed and not in_order then
    lanes_changed = task.lane or lanes_changed
    redis.call('PERSIST', K.record(id)) -- a first write that a full Redis does not refuse
    join_queue(id, fields(id, ORDERING_FIELDS), now) -- its delay is over
    return
  end
  local at, crashes = moment_of(task, now), (task.crashes or 0) + (lapsed and 1 or 0)
  if crashes > crash_limit then
    end_due_task(id, 'fail', { 'crashes', digits(crashes), 'reason', 'poisoned' })
    return
  end
  known_floor = known_floor or lowest_fence()
  local why = has_pauses and paused_of(name, task.tool)
  if why then
    lanes_changed = task.lane or lanes_changed
    hold(id, { queue = name, status = task.status, lane = task.lane }, why, now)
    return
  end
  local rate = task.lane and redis.call('HGET', K.record(id), 'rate')
  local start_at = rate and next_start(task.lane, rate, now)
  if start_at then
    postponed = postponed + 1
    start_at = start_at + postponed * STEP -- they keep their order
    next_due = math.min(next_due, start_at)
    redis.call('ZADD', queue, start_at, id)
    return
  end
  local fence, attempt = next_fence(task.fence), task.attempt + 1
  local more_facts = attempt > 1 and { 'due_ms', '', 'reason', '' } or {}
  if not task.started_ms then
    more_facts[#more_facts + 1], more_facts[#more_facts + 2] = 'started_ms', digits(at)
  end
  append(id, task, at, lapsed and 'reclaim' or 'claim',
    { 'fence', digits(fence), 'attempt', digits(attempt), 'crashes', digits(crashes), 'worker', worker }, more_facts)
  leases[#leases + 1], leases[#leases + 2] = lease_end, id
  if has_stock_workers or #ARGV >= first_named then
    redis.call('PSETEX', K.in_progress(id), ARGV[3], digits(fence)) -- for arq, which starts no task that is marked
  end
  -- Nothing happens to a task that waits.
  local since = math.max(task.updated_ms, tonumber(task.due_ms or 0) or 0, tonumber(task.not_before_ms or 0))
  add_claimed(id, task, fence, attempt, crashes, lapsed and -1 or math.max(0, at - since))
  if rate and rate:sub(-5) == 'start' then
    lanes_changed = true
    leave_lane(id, task.lane, now) -- the rate counts starts, not what runs
  end
end

-- Deletes the ordering of a queue in which no task waits.
local function delete_idle_ordering(more)
  if not more and not lanes_changed and not left_alone then
    idle_keys[#idle_keys + 1] = K.ordering(name)
  end
end

-- Whether a queue may have due tasks with a timestamp (lapsed, delayed) that this part of it does not show.
local function hides_due(head, left)
  if #head > 2 * left then
    return true
  end
  for i = 2, #head, 2 do
    local due = tonumber(head[i])
    if due >= FIRST_TIMESTAMP and due <= precise then
      return true
    end
  end
  return false
end

-- Lapsed leases come before the ordering; delays that are over get their position in it. Returns whether there were any.
local function take_lapsed()
  local lapsed = redis.call('ZRANGEBYSCORE', queue, FIRST_TIMESTAMP, precise, 'LIMIT', 0, room - #ids)
  for _, id in ipairs(lapsed) do
    take(id)
  end
  write_leases()
  return #lapsed > 0
end

-- Whether a task may have the next slot: a reserved one is only for a principal with nothing running here.
local function may_have_slot(id)
  if room - #ids > reserved then
    return true
  end
  local principal = redis.call('HGET', K.record(id), 'principal') or 'anonymous'
  local may = not has_name(principal) or not holders:find(principal, 1, true)
  left_alone = left_alone or not may
  return may
end

-- A task in a reserved slot is not served in order, so it uses up nothing of its principal's share in the order.
local function give_position_back(id)
  local task = fields(id, { 'principal', 'priority' })
  local priority = tonumber(task.priority or 0)
  redis.call('HINCRBYFLOAT', K.ordering(name), task.principal .. ' ' .. priority, -(2 ^ -priority))
end

-- Looks behind the tasks of principals that have their share for one that may have a reserved slot: at the head of the
-- queue, and at the rank where the last claim came to.
local function take_for_reserved_slots()
  for _, from in ipairs(look_from > 0 and { 0, look_from } or { 0 }) do
    local rows = redis.call('ZRANGE', queue, from, from + WINDOW - 1, 'WITHSCORES')
    look_next = #rows == 2 * WINDOW and from + WINDOW or 0
    for i = 1, #rows, 2 do
      if tonumber(rows[i + 1]) >= FIRST_TIMESTAMP then
        look_next = 0
        break
      elseif may_have_slot(rows[i]) then
        local before = #ids
        take(rows[i], true)
        if #ids > before then
          give_position_back(rows[i])
        end
        if #ids == room then
          look_next = from + (i - 1) / 2
          write_leases()
          return
        end
      end
    end
    write_leases()
  end
end

-- Takes due tasks from the head of the queue, as many as there is room for.
local function take_from_head()
  local before, left, served, more = #ids, room - #ids, false, false
  -- One more than there is room for: its score tells whether, and when, there is more to claim.
  local head = redis.call('ZRANGE', queue, 0, left, 'WITHSCORES')
  if hides_due(head, left) and take_lapsed() then
    left = room - #ids
    head = redis.call('ZRANGE', queue, 0, left, 'WITHSCORES')
  end
  for i = 1, #head, 2 do
    local due = tonumber(head[i + 1])
    if due <= precise and i < 2 * left then
      if left_alone or not may_have_slot(head[i]) then
        more = true
      else
        take(head[i], true)
        served = due < FIRST_TIMESTAMP and due or served
      end
    else
      next_due = math.min(next_due, due)
      more = more or due < FIRST_TIMESTAMP
    end
  end
  write_leases()
  if left_alone then
    take_for_reserved_slots()
    if #ids < room and next_due <= precise then
      next_due = math.huge -- it would look again at once, for tasks that it leaves
    end
  end
  if #ids > before then
    next_due = math.min(next_due, now + lease)
  end
  if more and served then
    advance(K.ordering(name), served)
  end
  delete_idle_ordering(more)
end

local function take_named()
  for i = first_named, #ARGV do
    local score = tonumber(redis.call('ZSCORE', queue, ARGV[i]) or math.huge)
    if score <= precise then
      take(ARGV[i], score < FIRST_TIMESTAMP)
      if score < FIRST_TIMESTAMP then
        advance(K.ordering(name), score)
      end
    end
  end
  write_leases()
  redis.pcall('HSETNX', K.epoch, 'stock', 1) -- from now on all claims mark what they take; a full Redis may refuse it
end

announced = {}
local finished = finish_all(now, 8, first_named - 1)
local last_claim = batch_id ~= '' and redis.call('GET', KEYS[1])
local repeated = last_claim and last_claim:match('^%S+') == batch_id
local wait = math.huge
if repeated then
  repeat_batch(last_claim)
end
for each in ARGV[1]:gmatch('[^,]+') do
  name, queue, next_due, left_alone = each, K.queue(each), math.huge, false
  if not repeated and #ARGV >= first_named then
    take_named()
  elseif not repeated then
    take_from_head()
  end
  if repeated or #ARGV >= first_named or lanes_changed then -- a task that left a lane may have let another one in
    next_due = tonumber(redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2]) or math.huge
    delete_idle_ordering(next_due < FIRST_TIMESTAMP)
  end
  if next_due <= precise or left_alone then
    wake(name) -- more than this worker can take: wake an idle one
  else
    idle_keys[#idle_keys + 1] = K.wake(name)
  end
  if #idle_keys > 0 then
    redis.call('DEL', unpack(idle_keys))
    idle_keys = {}
  end
  wait = math.min(wait, next_due)
end
if #ids > 0 then
  args = redis.call('MGET', unpack(args))
end
if batch_id ~= '' and not repeated and (#ids > 0 or room == 0) then
  redis.call('SET', KEYS[1], batch_id .. ' ' .. table.concat(ids, ' '), 'PX', room == 0 and REVOKED_FOR or lease)
end
publish_all()
return { now, wait == math.huge and -1 or math.max(0, math.ceil(wait - precise)), taken, args, look_next, finished }
