-- Notes a schedule that is new, or that differs from the one before: its firings begin now.
-- KEYS: 1 schedules
-- ARGV: 1 name, 2 schedule
-- Returns: 'new' | 'changed' | 'known'
-- Events: none
local now = clock()
local before = redis.call('HGET', KEYS[1], ARGV[1])
local seen, latest, schedule = (before or '0 -'):match('^(%d+) (%S+) ?(.*)$')
if before and schedule == ARGV[2] then
  return 'known'
end
redis.call('HSET', KEYS[1], ARGV[1], digits(math.max(now, tonumber(seen))) .. ' ' .. latest .. ' ' .. ARGV[2])
return before and 'changed' or 'new'
