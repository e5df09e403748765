-- Notes whether the result of a task is refused: lists, which read no results, show such a task as failed.
-- KEYS: 1 record
-- ARGV: 1 1 = it is refused, 0 = it is not
-- Returns: 1, or 0 if there is no record
-- Events: none: what the task did does not change
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
elseif ARGV[1] == '1' then
  redis.call('HSET', KEYS[1], 'unreadable', 1)
else
  redis.call('HDEL', KEYS[1], 'unreadable')
end
return 1
