-- Gives a task back: its worker drains, does not know the tool, or wants another attempt later. No crash counted.
-- KEYS: 1 record
-- ARGV: 1 id, 2 fence, 3 ms until it may run, 4 failures so far, 5 reason
-- Returns: 'released' | 'lost'
-- Events: release
local id = ARGV[1]
if not holds(id, ARGV[2], 'release') then
  return 'lost'
end
local now, precise = clock()
local delay = tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'status', TO.release, 'worker', '')
append(id, moment_of(id, now), 'release', { 'failures', ARGV[4], 'due_ms', now + delay, 'reason', ARGV[5] })
requeue(id, redis.call('HGET', KEYS[1], 'queue'), precise + delay)
return 'released'
