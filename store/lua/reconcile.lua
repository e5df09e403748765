-- Repairs what somebody else's writing, or a stock arq worker's, took from the queue: every open task is reachable.
-- KEYS: 1 live
-- ARGV: 1 first rank, 2 last rank, 3 lease ms
-- Returns: {tasks looked at, tasks repaired}
-- Events: none: what a reader sees of a task does not change
local now, precise = clock()
local ids = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2])
local repaired, queues = 0, {}

-- Whether a task waits outside its queue as it should: for a place in a lane that has none.
local function waits(id, was)
  return was.lane and redis.call('ZSCORE', K.line(was.lane), id) and not has_room(was.lane, was.lane_limit)
end

local function put_back(id, was)
  local idle, due = was.status == TO.create, tonumber(was.due_ms or '') or 0
  if parked(was) then
    redis.call('ZADD', K.queue(was.queue), parked_until(was), id)
  elseif idle and due > precise then
    redis.call('ZADD', K.queue(was.queue), due, id)
  elseif idle then
    if was.lane then
      redis.call('ZREM', K.line(was.lane), id)
    end
    line_up(id, was, now, true)
  else
    redis.call('ZADD', K.queue(was.queue), now + tonumber(ARGV[3]), id)
  end
  wake(was.queue)
end

for _, id in ipairs(ids) do
  local was = fields(id, { 'due_ms', 'worker', 'deadline_ms', unpack(STANDING) })
  if not may('cancel', was.status) then
    redis.call('ZREM', KEYS[1], id)
    repaired = repaired + 1
  else
    queues[was.queue] = true
    if redis.call('SETNX', K.job(id), '{"f":"taskmill","a":["' .. id .. '"],"k":{},"t":null,"et":' .. now .. '}') == 1 then
      repaired = repaired + 1
    end
    if was.status == TO.create and redis.call('DEL', K.in_progress(id)) == 1 then
      repaired = repaired + 1
    end
    if not redis.call('ZSCORE', K.queue(was.queue), id) and not waits(id, was) then
      put_back(id, was)
      repaired = repaired + 1
    end
  end
end

-- A line that is never empty would remember every principal that ever stood in it: a few who have been served go.
for queue in pairs(queues) do
  local pace = K.pace(queue)
  local served = tonumber(redis.call('HGET', pace, 'served') or 0)
  local some = redis.call('HLEN', pace) > 1000 and redis.call('HRANDFIELD', pace, 500, 'WITHVALUES') or {}
  for i = 1, #some, 2 do
    if some[i]:find(' ', 1, true) and tonumber(some[i + 1]) <= served then
      redis.call('HDEL', pace, some[i])
    end
  end
end
return { #ids, repaired }
