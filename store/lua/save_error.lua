-- Saves why an attempt failed, for operators. The same call again changes nothing more. The errors of older attempts are deleted.
-- KEYS: 1 errors
-- ARGV: 1 id, 2 fence, 3 attempt, 4 error, 5 most errors of a task
-- Returns: 'kept' | 'lost'
-- Events: none: what a reader sees of a task does not change
local id = ARGV[1]
if not owns(load(id), ARGV[2], 'progress') then
  return 'lost'
end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
local attempts = redis.call('HKEYS', KEYS[1])
table.sort(attempts, function(one, other) return tonumber(one) < tonumber(other) end)
for i = 1, #attempts - ARGV[5] do
  redis.call('HDEL', KEYS[1], attempts[i])
end
redis.call('HSET', K.record(id), 'left', 1)
return 'kept'
