-- Pauses a queue or a tool, or ends its pause. From then on no claim starts a task of it; or may again.
-- KEYS: 1 paused
-- ARGV: 1 `queue <shared name>` or `tool <app>/<tool>`, 2 who, when and why, as JSON; '' = the pause ends
-- Returns: 1 if it was paused before, else 0
-- Events: none
local was_paused = redis.call('HEXISTS', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('HSET', K.epoch, 'paused', 1) -- what claims read: whether they have to look at all
else
  redis.call('HDEL', KEYS[1], ARGV[1])
  if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('HDEL', K.epoch, 'paused')
  end
end
return was_paused
