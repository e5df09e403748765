-- Gives a task back: its worker drains, does not have the tool, or wants another attempt later. No crash is counted.
-- Drains are counted apart; a task that was given back by more of them than allowed has failed.
-- KEYS: 1 record
-- ARGV: 1 id, 2 fence, 3 ms until it may run, 4 failures so far, 5 reason, 6 drains allowed (0 = any number)
-- Returns: 'released' | 'released again' (every tenth drain) | 'drained' (it has failed) | 'lost'
-- Events: release; fail, of a task that drains interrupt without end
local id = ARGV[1]
local task = load(id, 'drains')
if not owns(task, ARGV[2], 'release') then
  return 'lost'
end
local now, precise = clock()
local delay, limit, drains = tonumber(ARGV[3]), tonumber(ARGV[6]), (task.drains or 0) + 1
local is_drain = ARGV[5] == 'drain'
if is_drain and limit > 0 and drains > limit then
  local ending = load_ending(id)
  settle(id, ending, moment_of(ending, now), 'fail', { 'drains', digits(drains), 'reason', 'drained' })
  apply_removals()
  return 'drained'
end
local facts = { 'failures', ARGV[4], 'due_ms', digits(now + delay), 'reason', ARGV[5] }
if is_drain then
  facts[#facts + 1], facts[#facts + 2] = 'drains', digits(drains)
end
append(id, task, moment_of(task, now), 'release', facts, { 'worker', '' })
requeue(id, precise + delay, precise)
return is_drain and drains % 10 == 0 and 'released again' or 'released'
