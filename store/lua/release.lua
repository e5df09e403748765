-- Gives a task back: its worker drains, does not have the tool, or wants another attempt later. No crash is counted.
-- KEYS: 1 record
-- ARGV: 1 id, 2 fence, 3 ms until it may run, 4 failures so far, 5 reason
-- Returns: 'released' | 'lost'
-- Events: release
local id = ARGV[1]
local task = load(id)
if not owns(task, ARGV[2], 'release') then
  return 'lost'
end
local now, precise = clock()
local delay = tonumber(ARGV[3])
local facts = { 'failures', ARGV[4], 'due_ms', now + delay, 'reason', ARGV[5] }
append(id, task, moment_of(task, now), 'release', facts, { 'worker', '' })
requeue(id, precise + delay, precise)
return 'released'
