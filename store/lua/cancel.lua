-- Cancels a task at once, whichever worker has it; the fence rises, so that worker can change it no longer.
-- KEYS: 1 record
-- ARGV: 1 id, 2 principal ('' = an operator, any), 3 reason
-- Returns: 'missing' | 'cancelled' | 'ended'
-- Events: cancel
local id = ARGV[1]
local task = load_ending(id)
if not task.principal or (ARGV[2] ~= '' and task.principal ~= ARGV[2]) then
  return 'missing'
end
if not is_legal('cancel', task.status) then
  return 'ended'
end
settle(id, task, moment_of(task, clock()), 'cancel', { 'fence', digits(next_fence(task.fence)), 'reason', ARGV[3] })
apply_removals()
local worker = redis.call('HGET', KEYS[1], 'worker')
if worker and worker ~= '' then
  redis.call('PUBLISH', K.signal(worker), 'cancel ' .. id)
end
return 'cancelled'
