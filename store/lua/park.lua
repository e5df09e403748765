-- Lets go of a task that only waits for answers: nobody holds it, and the last answer puts it back in its queue.
-- KEYS: none
-- ARGV: 1 id, 2 fence
-- Returns: 'parked' | 'released' (the answers came first: it is back in its queue) | 'lost'
-- Events: park, or release
local id = ARGV[1]
local was = load(id, 'queue', 'failures', 'deadline_ms', 'lane')
local now = clock()
if holds(was, ARGV[2], 'park') then
  -- The fence rises, so that a renewal on its way cannot give the lease back to a worker that has let go.
  append(id, was, moment_of(was, now), 'park', { 'fence', next_fence(was.fence) }, { 'worker', '' })
  redis.call('ZADD', K.queue(was.queue), parked_until(was), id)
  redis.call('DEL', K.in_progress(id))
  if was.lane then
    leave_lane(id, was.lane, now)
  end
  return 'parked'
end
if not holds(was, ARGV[2], 'release') then
  return 'lost'
end
local facts = { 'failures', was.failures or 0, 'due_ms', now, 'reason', 'answered' }
append(id, was, moment_of(was, now), 'release', facts, { 'worker', '' })
requeue(id, now, now)
return 'released'
