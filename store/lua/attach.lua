-- Makes an artifact, whose bytes are written, part of its task; from now on the task's owner can read it.
-- KEYS: 1 artifact, 2 artifacts of the task
-- ARGV: 1 id, 2 fence, 3 artifact id, 4 most artifacts of a task, then name, value of its fields, repeated
-- Returns: 'attached' | 'lost' | 'full' | 'late' (its bytes may have been swept meanwhile)
-- Events: none: what a reader sees of the task does not change
local id, artifact = ARGV[1], ARGV[3]
local task = load(id, 'principal')
if not owns(task, ARGV[2], 'progress') then
  return 'lost'
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'attached' -- the same call again, after a lost reply
end
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[4]) then
  return 'full'
end
if redis.call('PERSIST', K.blob(artifact)) == 0 then
  local kept = redis.call('ZSCORE', K.outside, artifact)
  if not kept or tonumber(kept) <= clock() then
    return 'late'
  end
  redis.call('ZADD', K.outside, 'inf', artifact)
end
redis.call('HSET', KEYS[1], 'task', id, 'principal', task.principal, unpack(ARGV, 5))
redis.call('SADD', KEYS[2], artifact)
redis.call('HSET', K.record(id), 'left', 1)
return 'attached'
