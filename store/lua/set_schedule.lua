-- Notes a schedule that is new, or that differs from the one before: its firings begin now. So do those of one whose latest
-- firing lies in the future: the clock was ahead, and nothing would fire until that time.
-- KEYS: 1 schedules
-- ARGV: 1 name, 2 schedule
-- Returns: 'new' | 'changed' | 'ahead' | 'known'
-- Events: none
local AHEAD = 60000 -- ms that two clocks may differ after a failover
local now = clock()
local before = redis.call('HGET', KEYS[1], ARGV[1])
local seen, latest, schedule = (before or '0 -'):match('^(%d+) (%S+) ?(.*)$')
local is_ahead = tonumber(seen) > now + AHEAD
if before and schedule == ARGV[2] and not is_ahead then
  return 'known'
end
local from = is_ahead and now or math.max(now, tonumber(seen))
redis.call('HSET', KEYS[1], ARGV[1], digits(from) .. ' ' .. latest .. ' ' .. ARGV[2])
return not before and 'new' or is_ahead and 'ahead' or 'changed'
