-- Which task is next: positions in a queue, lanes, wake tokens. Stands before prelude.lua.
--
-- A queue is arq's sorted set; a task whose score is not above the clock is due. A score from FIRST_TIMESTAMP on is a time
-- in ms since 1970: the end of a lease, or when a delayed task may join the order. A lower score is a position in the fair
-- order between principals; the lowest is next.

local FIRST_TIMESTAMP = 1e12
local STEP = 1 / 1024 -- between two tasks that get the same position
local HEAD_START = 100 -- positions that one level of priority is ahead
local TOKENS = 128 -- wake tokens kept of one queue
local NEAR = 4 -- positions behind the front, for a principal of whom few tasks wait

-- What joining a queue needs of a record.
local ORDERING_FIELDS = { 'status', 'queue', 'principal', 'priority', 'lane', 'lane_limit' }

-- Whether the engine's table lets a task in this state make the move.
local function is_legal(move, status)
  return status and FROM[move]:find(' ' .. status .. ' ', 1, true) ~= nil
end

-- These fields of a record by name, false where it has none.
local function fields(id, names)
  local values, field = redis.call('HMGET', K.record(id), unpack(names)), {}
  for i = 1, #names do
    field[names[i]] = values[i]
  end
  return field
end

-- Whether slots are reserved for others than this principal. Without authentication all callers are one principal, which has
-- no one to leave a slot to.
local function has_name(principal)
  return principal ~= 'anonymous' and principal ~= 'local'
end

-- Wakes an idle worker of the queue, or `count` of them. Tokens that no worker takes expire: while there are some, no worker
-- waits for one.
local function wake(queue, count)
  local key, tokens = K.wake(queue), { 1 }
  count = math.min(count or 1, TOKENS)
  for i = 2, count do
    tokens[i] = 1
  end
  local waiting = redis.call('LPUSH', key, unpack(tokens))
  if waiting == count then
    redis.call('PEXPIRE', key, 60000)
  elseif waiting > TOKENS then
    redis.call('LTRIM', key, 0, TOKENS - 1)
  end
end

-- Wakes a worker that rests, because only its reserved slots are free: a caller's task comes that may have one. The token is
-- of use for as long as such a worker would rest without it.
local function wake_resting(queue)
  local waiting = redis.call('LPUSH', K.newcomer(queue), 1)
  if waiting == 1 then
    redis.call('PEXPIRE', K.newcomer(queue), 1000)
  elseif waiting > NEAR then
    redis.call('LTRIM', K.newcomer(queue), 0, 0)
  end
end

-- The next positions in an ordering for tasks of one principal and priority: position, id, position, id... They are fair between
-- principals (start-time fair queueing): a principal with many tasks there gets positions further and further back, one with
-- none gets a position right behind the one served last. Each level of priority is a head start, and twice as many tasks in
-- the same stretch. `at_front`: the task had a position before, and is not counted again. Also returns whether no other task
-- is in the ordering, and whether there are others, but few of this principal that are ahead.
local function next_positions(ordering, ids, task, at_front)
  local priority = tonumber(task.priority or 0)
  local flow, step, head_start = task.principal .. ' ' .. priority, 2 ^ -priority, HEAD_START * priority
  local known = redis.call('HMGET', ordering, 'served', 'latest', flow)
  local latest, own, entries, is_later = tonumber(known[2] or 0), tonumber(known[3]), {}, false
  local front = math.max(tonumber(known[1] or 0), latest)
  for i, id in ipairs(ids) do
    local behind = math.max(tonumber(known[1] or 0), latest + STEP)
    if not own or own <= behind - head_start or at_front then
      own, latest, is_later = behind - head_start, behind, true
    end
    entries[2 * i - 1], entries[2 * i] = own, id
    own = own + step
  end
  if at_front then
    redis.call('HSET', ordering, 'latest', latest)
  elseif is_later then
    redis.call('HSET', ordering, 'latest', latest, flow, own)
  else
    redis.call('HSET', ordering, flow, own)
  end
  return entries, not known[2], known[2] and entries[1] <= front + NEAR
end

-- Notes the position that was served last.
local function advance(ordering, at)
  if at > tonumber(redis.call('HGET', ordering, 'served') or 0) then
    redis.call('HSET', ordering, 'served', at)
  end
end

-- Puts tasks of one principal and priority in their queue; returns whether no other task waits there.
local function enqueue(ids, task, at_front)
  local entries, alone, is_newcomer = next_positions(K.ordering(task.queue), ids, task, at_front)
  redis.call('ZADD', K.queue(task.queue), unpack(entries))
  wake(task.queue, #ids)
  if is_newcomer and has_name(task.principal) then
    wake_resting(task.queue)
  end
  return alone
end

-- Whether a lane has a free slot. A task whose record was deleted by another program occupies none.
local function has_room(lane, limit)
  if redis.call('ZCARD', K.lane(lane)) < tonumber(limit) then
    return true
  end
  local eldest = redis.call('ZRANGE', K.lane(lane), 0, 0)[1]
  return not is_legal('cancel', redis.call('HGET', K.record(eldest), 'status')) and redis.call('ZREM', K.lane(lane), eldest) == 1
end

-- Puts a task that may run now in its queue. While its lane is full it waits outside the queue, where it delays no other.
-- `task`: with ORDERING_FIELDS.
local function join_queue(id, task, now, at_front)
  if task.lane and not redis.call('ZSCORE', K.lane(task.lane), id) then
    if not has_room(task.lane, task.lane_limit) then
      local entries = next_positions(K.ordering('lane:' .. task.lane), { id }, task, at_front)
      redis.call('ZADD', K.lane_queue(task.lane), unpack(entries))
      redis.call('ZREM', K.queue(task.queue), id)
      return
    end
    redis.call('ZADD', K.lane(task.lane), now, id)
  end
  enqueue({ id }, task, at_front)
end

-- Takes a task out of its lane; the next one that waits for a slot gets it.
local function leave_lane(id, lane, now)
  redis.call('ZREM', K.lane_queue(lane), id)
  if redis.call('ZREM', K.lane(lane), id) == 0 then
    return
  end
  local ordering = K.ordering('lane:' .. lane)
  while true do
    local first = redis.call('ZRANGE', K.lane_queue(lane), 0, 0, 'WITHSCORES')
    local task = first[1] and fields(first[1], ORDERING_FIELDS)
    if not task then
      redis.call('DEL', ordering)
      return
    elseif not is_legal('claim', task.status) then
      redis.call('ZREM', K.lane_queue(lane), first[1])
    elseif has_room(lane, task.lane_limit) then
      redis.call('ZREM', K.lane_queue(lane), first[1])
      redis.call('ZADD', K.lane(lane), now, first[1])
      advance(ordering, tonumber(first[2]))
      enqueue({ first[1] }, task)
    else
      return
    end
  end
end

-- Scores from here on are of tasks that are held, because their queue or tool is paused: the order in which they were
-- held. They are behind all that is due, so that no worker finds them, arq's neither.
local HELD = 1e14

-- What is paused of a task with this queue and tool: 'queue', 'tool', or nil. A pause is for all stacks of an app.
local pauses
local function paused_of(queue, tool)
  if not pauses then
    pauses = {}
    for _, name in ipairs(redis.call('HKEYS', K.paused)) do
      pauses[name] = true
    end
  end
  local shared = queue:gsub('%+[^/]*', '', 1)
  return pauses['queue ' .. shared] and 'queue' or pauses['tool ' .. (shared:match('^.*/') or '/') .. tool] and 'tool' or nil
end

-- Moves a task of what is paused out of the way. One that waits to start leaves its lane, which others may share.
local function hold(id, task, why, now)
  local last = redis.call('ZREVRANGE', K.queue(task.queue), 0, 0, 'WITHSCORES')
  redis.call('ZADD', K.queue(task.queue), math.max(HELD, tonumber(last[2] or 0) + 1), id)
  if is_legal('claim', task.status) then
    redis.call('HSET', K.record(id), 'paused', why)
    if task.lane then
      leave_lane(id, task.lane, now)
    end
  end
end

-- Gives a held task its place in the order again, as if it came now; one whose worker has died comes first.
local function unhold(id, task, now)
  redis.call('HDEL', K.record(id), 'paused')
  if is_legal('claim', task.status) then
    join_queue(id, task, now)
  else
    redis.call('ZADD', K.queue(task.queue), now, id)
    wake(task.queue)
  end
end

-- Counts a start in a lane with a rate, `n/ms` or `n/ms/start`, and returns false. When there were n starts in the last so
-- many ms it counts none, and returns when the next is allowed, in ms since 1970.
local function next_start(lane, rate, now)
  local most, period = rate:match('^(%d+)/(%d+)')
  local nth = redis.call('LINDEX', K.starts(lane), most - 1)
  if nth and nth + period > now then
    return nth + period
  end
  redis.call('LPUSH', K.starts(lane), now)
  redis.call('LTRIM', K.starts(lane), 0, most - 1)
  redis.call('PEXPIRE', K.starts(lane), period)
  return false
end

-- Gives a task back, to run when due. Until then it occupies no slot of its lane.
local function requeue(id, due, now)
  local task = fields(id, ORDERING_FIELDS)
  redis.call('DEL', K.in_progress(id))
  if due <= now then
    join_queue(id, task, now, true)
    return
  end
  redis.call('ZADD', K.queue(task.queue), due, id)
  wake(task.queue)
  if task.lane then
    leave_lane(id, task.lane, now)
  end
end

-- How many tasks are ahead of a pending one; -1 = it has no position.
local function ahead_of(id, task)
  local rank = redis.call('ZRANK', K.queue(task.queue), id)
  if rank or not task.lane then
    return rank or -1
  end
  rank = redis.call('ZRANK', K.lane_queue(task.lane), id)
  return rank and rank + redis.call('ZCARD', K.lane(task.lane)) or -1
end

