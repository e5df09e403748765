-- Repairs what somebody else's writing, or a stock arq worker's, took from the queue: every open task is reachable.
-- KEYS: 1 live
-- ARGV: 1 first rank, 2 last rank, 3 lease ms
-- Returns: {tasks looked at, tasks repaired}
-- Events: none: what a reader sees of a task does not change
local now, precise = clock()
local ids = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2])
local repaired = 0
for _, id in ipairs(ids) do
  local field = redis.call('HMGET', K.record(id), 'status', 'queue', 'due_ms', 'worker', 'deadline_ms')
  if not may('cancel', field[1]) then
    redis.call('ZREM', KEYS[1], id)
    repaired = repaired + 1
  else
    if redis.call('SETNX', K.job(id), '{"f":"windlass","a":["' .. id .. '"],"k":{},"t":null,"et":' .. now .. '}') == 1 then
      repaired = repaired + 1
    end
    local idle = field[1] == TO.create
    if idle and redis.call('DEL', K.in_progress(id)) == 1 then
      repaired = repaired + 1
    end
    if not redis.call('ZSCORE', K.queue(field[2]), id) then
      local was = { status = field[1], worker = field[4], deadline_ms = field[5] }
      local due = idle and math.max(precise, tonumber(field[3]) or 0) or now + tonumber(ARGV[3])
      redis.call('ZADD', K.queue(field[2]), parked(was) and parked_until(was) or due, id)
      wake(field[2])
      repaired = repaired + 1
    end
  end
end
return { #ids, repaired }
