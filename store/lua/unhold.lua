-- Puts held tasks of a queue back in the order, as far as nothing of them is paused any more.
-- KEYS: 1 queue
-- ARGV: 1 how many to pass over, 2 how many to look at
-- Returns: {how many were looked at, how many of them are still paused}
-- Events: none: a pause is no event of the task's
local now = clock()
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], HELD, '+inf', 'LIMIT', ARGV[1], ARGV[2])
local passed = 0
for _, id in ipairs(ids) do
  local task = fields(id, { 'tool', unpack(ORDERING_FIELDS) })
  if not task.status then
    redis.call('ZREM', KEYS[1], id)
  elseif paused_of(task.queue, task.tool) then
    passed = passed + 1
  else
    unhold(id, task, now)
  end
end
return { #ids, passed }
