-- Gives a task back: its worker drains, does not know the tool, or wants another attempt later. No crash counted.
-- KEYS: 1 record
-- ARGV: 1 id, 2 fence, 3 ms until it may run, 4 failures so far, 5 reason
-- Returns: 'released' | 'lost'
-- Events: release
local id = ARGV[1]
local was = load(id)
if not holds(was, ARGV[2], 'release') then
  return 'lost'
end
local now, precise = clock()
local delay = tonumber(ARGV[3])
local facts = { 'failures', ARGV[4], 'due_ms', now + delay, 'reason', ARGV[5] }
append(id, was, moment_of(was, now), 'release', facts, { 'worker', '' })
requeue(id, precise + delay, precise)
return 'released'
