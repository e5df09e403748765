-- Takes webhooks that are due for one worker, which has them until its lease ends.
-- KEYS: 1 deliveries of its app
-- ARGV: 1 how many, 2 lease ms
-- Returns: {now ms, {id, {field, value...}}...}
-- Events: none
local now = clock()
local taken = { now }
redis.call('PEXPIRE', KEYS[1], DELIVERIES_KEPT) -- a first write that a full Redis does not refuse
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local delivery = K.webhook(id)
  if redis.call('EXISTS', delivery) == 1 then
    redis.call('HINCRBY', delivery, 'd_taken', 1)
    redis.call('ZADD', KEYS[1], now + ARGV[2], id)
    taken[#taken + 1] = { id, redis.call('HGETALL', delivery) }
  else
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZREM', K.webhooks, id)
  end
end
return taken
