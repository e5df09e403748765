-- Shared opening of every script: the clock, the event writer, the end of a task, the wake token.
-- The loader puts two generated tables before this text: K, the key functions, and the engine's table of moves as
-- FROM[move] (list of states) and TO[move] (state). Nothing here is a move of its own.

local HISTORY = 10000 -- events kept of one task; older progress falls off
local TOKENS = 128 -- wake tokens kept for one queue

-- One clock for everybody. Returns whole milliseconds, and milliseconds with their fraction (order within one).
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000), t[1] * 1000 + t[2] / 1000
end

-- Whether the engine's table lets a task in this state make the move.
local function may(move, status)
  return status and FROM[move][status] == true
end

-- Time of the next event of a record: never before its last one, so that updated_ms is monotone.
local function moment_of(id, now)
  return math.max(now, tonumber(redis.call('HGET', K.record(id), 'updated_ms') or '0'))
end

-- Writes facts (flat name, value list; '' = None) to record and history, and announces the event number.
local function append(id, now, move, facts)
  local record = K.record(id)
  local seq = redis.call('HINCRBY', record, 'seq', 1)
  redis.call('HSET', record, 'updated_ms', now, unpack(facts))
  redis.call('XADD', K.events(id), 'MAXLEN', '~', HISTORY, seq .. '-0', 'move', move, 'at', now, unpack(facts))
  redis.call('PUBLISH', record, seq)
end

-- Ends a task: last event, out of every queue and set, lease and questions gone, the rest kept for the retention.
-- The arguments of a task that succeeded go too: nobody will run it again.
local function settle(id, now, move, facts, succeeded)
  local record = K.record(id)
  local field = redis.call('HMGET', record, 'queue', 'principal', 'retention_ms', 'once', 'listed_for')
  redis.call('HSET', record, 'status', TO[move], 'ended_ms', now, 'questions', 0)
  append(id, now, move, facts)
  redis.call('ZREM', K.queue(field[1]), id)
  redis.call('ZREM', K.live, id)
  redis.call('ZREM', K.open(field[2]), id)
  redis.call('DEL', K.inputs(id), K.job(id), K.in_progress(id), K.retry(id))
  redis.call('PEXPIRE', record, field[3])
  redis.call('PEXPIRE', K.events(id), field[3])
  if succeeded then
    redis.call('DEL', K.args(id))
  else
    redis.call('PEXPIRE', K.args(id), field[3])
  end
  redis.call('ZADD', K.fading, now + field[3], field[5] and id .. ' ' .. field[5] or id)
  if field[4] then
    redis.call('PEXPIRE', K.once(field[2] .. ':' .. field[4]), field[3])
  end
end

-- Takes tasks whose retention has passed off the lists, oldest first: so many at most.
local function forget(now, most)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', K.fading, '-inf', '(' .. now, 'LIMIT', 0, most)) do
    local id, lister = entry:match('^(%S+) ?(.*)$')
    redis.call('ZREM', K.fading, entry)
    redis.call('ZREM', K.all, id)
    if lister ~= '' then
      redis.call('ZREM', K.list(lister), id)
    end
  end
end

-- Lets one idle worker of the queue look; tokens nobody takes fade after a minute (workers also poll).
local function wake(queue)
  local key = K.wake(queue)
  if redis.call('LLEN', key) < TOKENS then
    redis.call('LPUSH', key, 1)
  end
  redis.call('PEXPIRE', key, 60000)
end

-- Whether fence still names the owner of id, and the move is legal now. Also the state and fence found.
local function holds(id, fence, move)
  local held = redis.call('HMGET', K.record(id), 'status', 'fence')
  return held[2] == fence and may(move, held[1]), held[1], held[2]
end

-- Gives a task back to its queue, to be run when due.
local function requeue(id, queue, due)
  redis.call('ZADD', K.queue(queue), due, id)
  redis.call('DEL', K.in_progress(id))
  wake(queue)
end

