-- Notes how the delivery of a webhook went. Only who took it last can.
-- KEYS: 1 deliveries of its app
-- ARGV: 1 id, 2 number of the taking, 3 ms until the next try, '' = it is given up, 'delivered' = it is done,
--       4 how often it has been tried, 5 why the last try failed
-- Returns: 'settled' | 'lost'
-- Events: none
local id, delivery = ARGV[1], K.webhook(ARGV[1])
if redis.call('HGET', delivery, 'd_taken') ~= ARGV[2] then
  return 'lost'
end
if ARGV[3] == 'delivered' then
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZREM', K.webhooks, id)
  redis.call('DEL', delivery)
  return 'settled'
end
local now = clock()
redis.call('PEXPIRE', KEYS[1], DELIVERIES_KEPT) -- a first write that a full Redis does not refuse
redis.call('HSET', delivery, 'd_tries', ARGV[4], 'd_error', ARGV[5], 'd_tried_ms', now)
if ARGV[3] ~= '' then
  redis.call('ZADD', KEYS[1], now + ARGV[3], id)
  redis.call('HSET', delivery, 'd_next_ms', digits(now + ARGV[3]))
else
  redis.call('ZREM', KEYS[1], id)
  redis.call('HSET', delivery, 'd_given_up', 1)
  redis.call('PEXPIRE', delivery, DELIVERIES_KEPT)
end
return 'settled'
