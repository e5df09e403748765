-- Who is next: places in line, lanes, wake tokens. Stands before prelude.lua.
--
-- A queue is arq's sorted set, and everything up to now is due. A score from MOMENT on is a time in ms since 1970: the
-- end of a lease, or when a delayed task may line up. Below it is a place in line, and lower is sooner.

local MOMENT = 1e12
local STEP = 1 / 1024 -- between two tasks that come to the same place
local HEAD_START = 100 -- places a level of priority is worth
local TOKENS = 128 -- wake tokens kept for one queue

-- What lining up asks of a record.
local STANDING = { 'status', 'queue', 'principal', 'priority', 'lane', 'lane_limit' }

-- Whether the engine's table lets a task in this state make the move.
local function may(move, status)
  return status and FROM[move]:find(' ' .. status .. ' ', 1, true) ~= nil
end

-- What a record holds by field name, false where it has none.
local function fields(id, names)
  local values, field = redis.call('HMGET', K.record(id), unpack(names)), {}
  for i = 1, #names do
    field[names[i]] = values[i]
  end
  return field
end

-- Lets one idle worker of the queue look. Tokens nobody takes fade: while there are some, nobody waits for one.
local function wake(queue)
  local key = K.wake(queue)
  local waiting = redis.call('LPUSH', key, 1)
  if waiting == 1 then
    redis.call('PEXPIRE', key, 60000)
  elseif waiting > TOKENS then
    redis.call('LPOP', key)
  end
end

-- The next place in a line, fair between principals: one with many tasks there gets places further and further back,
-- one with none stands right behind where the line has come to. A level of priority is a head start, and twice the
-- tasks in the same stretch. `in_front`: it has stood in this line before, and is not counted again. Also returns whether
-- nobody stands in the line.
local function place(pace, was, in_front)
  local priority = tonumber(was.priority or 0)
  local flow = was.principal .. ' ' .. priority
  local known = redis.call('HMGET', pace, 'served', 'latest', flow)
  local latest = math.max(tonumber(known[1] or 0), tonumber(known[2] or 0) + STEP)
  local first, own = latest - HEAD_START * priority, tonumber(known[3])
  if in_front then
    redis.call('HSET', pace, 'latest', latest)
    return first, not known[2]
  elseif own and own > first then
    redis.call('HSET', pace, flow, own + 2 ^ -priority)
    return own
  end
  redis.call('HSET', pace, 'latest', latest, flow, first + 2 ^ -priority)
  return first, not known[2]
end

-- Notes how far a line has come.
local function move_on(pace, at)
  if at > tonumber(redis.call('HGET', pace, 'served') or 0) then
    redis.call('HSET', pace, 'served', at)
  end
end

-- Puts a task in its queue; whether it is the only one that waits there.
local function enqueue(id, was, in_front)
  local at, alone = place(K.pace(was.queue), was, in_front)
  redis.call('ZADD', K.queue(was.queue), at, id)
  wake(was.queue)
  return alone
end

-- Whether a lane takes another task. One whose record somebody removed holds no place.
local function has_room(lane, limit)
  if redis.call('ZCARD', K.lane(lane)) < tonumber(limit) then
    return true
  end
  local eldest = redis.call('ZRANGE', K.lane(lane), 0, 0)[1]
  return not may('cancel', redis.call('HGET', K.record(eldest), 'status')) and redis.call('ZREM', K.lane(lane), eldest) == 1
end

-- Puts a task that may run now in its queue. While its lane is full it waits outside, where it is in nobody's way.
-- `was`: with STANDING. Returns whether it is the only one that waits in its queue.
local function line_up(id, was, now, in_front)
  if was.lane and not redis.call('ZSCORE', K.lane(was.lane), id) then
    if not has_room(was.lane, was.lane_limit) then
      redis.call('ZADD', K.line(was.lane), (place(K.pace('lane:' .. was.lane), was, in_front)), id)
      redis.call('ZREM', K.queue(was.queue), id)
      return false
    end
    redis.call('ZADD', K.lane(was.lane), now, id)
  end
  return enqueue(id, was, in_front)
end

-- Takes a task out of its lane; whoever waits for the place gets it.
local function leave_lane(id, lane, now)
  redis.call('ZREM', K.line(lane), id)
  if redis.call('ZREM', K.lane(lane), id) == 0 then
    return
  end
  local pace = K.pace('lane:' .. lane)
  while true do
    local first = redis.call('ZRANGE', K.line(lane), 0, 0, 'WITHSCORES')
    local was = first[1] and fields(first[1], STANDING)
    if not was then
      redis.call('DEL', pace)
      return
    elseif not may('claim', was.status) then
      redis.call('ZREM', K.line(lane), first[1])
    elseif has_room(lane, was.lane_limit) then
      redis.call('ZREM', K.line(lane), first[1])
      redis.call('ZADD', K.lane(lane), now, first[1])
      move_on(pace, tonumber(first[2]))
      enqueue(first[1], was)
    else
      return
    end
  end
end

-- Counts a start in a lane with a rate, `n/ms` or `n/ms/start`. False, or when there were n in the last so many ms,
-- and none may be added: the ms since 1970 when one may.
local function too_soon(lane, rate, now)
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

-- Gives a task back, to run when due. In time it does not count in its lane.
local function requeue(id, due, now)
  local was = fields(id, STANDING)
  redis.call('DEL', K.in_progress(id))
  if due <= now then
    line_up(id, was, now, true)
    return
  end
  redis.call('ZADD', K.queue(was.queue), due, id)
  wake(was.queue)
  if was.lane then
    leave_lane(id, was.lane, now)
  end
end

-- How many tasks are before one that is pending, -1 = it is in no line.
local function ahead_of(id, was)
  local rank = redis.call('ZRANK', K.queue(was.queue), id)
  if rank or not was.lane then
    return rank or -1
  end
  rank = redis.call('ZRANK', K.line(was.lane), id)
  return rank and rank + redis.call('ZCARD', K.lane(was.lane)) or -1
end

