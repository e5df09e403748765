-- Parks a task that only waits for answers: no worker has it, and the last answer puts it back in its queue.
-- KEYS: none
-- ARGV: 1 id, 2 fence
-- Returns: 'parked' | 'released' (the answers came first: it is back in its queue) | 'lost'
-- Events: park, or release
local id = ARGV[1]
local task = load(id, 'queue', 'failures', 'deadline_ms', 'lane')
local now = clock()
if owns(task, ARGV[2], 'park') then
  -- The fence rises, so that a renewal that is on its way cannot give the lease back to the worker that parked the task.
  append(id, task, moment_of(task, now), 'park', { 'fence', digits(next_fence(task.fence)) }, { 'worker', '' })
  redis.call('ZADD', K.queue(task.queue), parked_until(task), id)
  redis.call('DEL', K.in_progress(id))
  if task.lane then
    leave_lane(id, task.lane, now)
  end
  return 'parked'
end
if not owns(task, ARGV[2], 'release') then
  return 'lost'
end
local facts = { 'failures', task.failures or '0', 'due_ms', digits(now), 'reason', 'answered' }
append(id, task, moment_of(task, now), 'release', facts, { 'worker', '' })
requeue(id, now, now)
return 'released'
