-- Creates a task: idempotency, quotas, then record, arguments, event, arq's job and queue entry in one step.
-- KEYS: 1 record
-- ARGV: 1 id, 2 arguments, 3 arq job, 4 tool, 5 queue, 6 principal, 7 retention ms, 8 poll ms,
--       9 idempotency key or '', 10 open tasks allowed to the principal, 11 open tasks allowed to all (0 = no limit),
--       12 who may list it or '', 13 id of the task it repeats or ''
-- Returns: {'created', id, ahead, now ms} | {'exists', id} | {'quota', 'principal' or 'all', limit}
-- Events: create
local id, queue, principal = ARGV[1], ARGV[5], ARGV[6]
if redis.call('EXISTS', KEYS[1]) == 1 then
  return { 'exists', id } -- the same call again, after a lost reply
end
local once = ARGV[9] ~= '' and K.once(principal .. ':' .. ARGV[9])
local first = once and redis.call('GET', once)
if first and redis.call('EXISTS', K.record(first)) == 1 then
  return { 'exists', first }
end
local mine, all = tonumber(ARGV[10]), tonumber(ARGV[11])
if mine > 0 and redis.call('ZCARD', K.open(principal)) >= mine then
  return { 'quota', 'principal', mine }
end
if all > 0 and redis.call('ZCARD', K.live) >= all then
  return { 'quota', 'all', all }
end

local now, due = clock()
forget(now, 4) -- more than this adds, so that lists hold little that is gone
redis.call('HSET', KEYS[1], 'status', TO.create, 'created_ms', now, 'fence', 0, 'attempt', 0)
local facts = { 'id', id, 'tool', ARGV[4], 'queue', queue, 'principal', principal, 'retention_ms', ARGV[7],
  'poll_ms', ARGV[8] }
if ARGV[13] ~= '' then
  facts[13], facts[14] = 'rerun_of', ARGV[13]
  if redis.call('EXISTS', K.record(ARGV[13])) == 1 then
    redis.call('HSET', K.record(ARGV[13]), 'rerun_as', id)
  end
end
append(id, now, 'create', facts)
redis.call('SET', K.args(id), ARGV[2])
redis.call('SET', K.job(id), ARGV[3])
redis.call('ZADD', K.live, now, id)
redis.call('ZADD', K.all, due, id)
if ARGV[12] ~= '' then
  redis.call('ZADD', K.list(ARGV[12]), due, id)
  redis.call('HSET', KEYS[1], 'listed_for', ARGV[12])
end
redis.call('ZADD', K.open(principal), now, id)
redis.call('ZADD', K.queue(queue), due, id)
if once then
  redis.call('SET', once, id) -- expires with the task, so that it holds however long the task takes
  redis.call('HSET', KEYS[1], 'once', ARGV[9])
end
wake(queue)
return { 'created', id, redis.call('ZRANK', K.queue(queue), id), now }
