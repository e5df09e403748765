-- Has a webhook tried again now, as if its task had just ended.
-- KEYS: 1 what is sent to it
-- ARGV: 1 id
-- Returns: 1, or 0 if there is no such webhook
-- Events: none
local queue = redis.call('HGET', KEYS[1], 'queue')
if not queue then
  return 0
end
local now, app = clock(), app_of(queue)
local due = K.deliveries(app)
redis.call('HDEL', KEYS[1], 'd_given_up', 'd_tries', 'd_error', 'd_next_ms')
redis.call('HSET', KEYS[1], 'd_from_ms', digits(now))
redis.call('PEXPIRE', KEYS[1], DELIVERIES_KEPT)
redis.call('ZADD', due, now, ARGV[1])
redis.call('PEXPIRE', due, DELIVERIES_KEPT)
return 1
