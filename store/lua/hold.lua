-- Holds the tasks of what is paused that wait in a queue; those that come later are held by the claim that meets them.
-- KEYS: 1 queue
-- ARGV: 1 how many to pass over, 2 how many to look at
-- Returns: {how many were looked at, how many of them are not paused}
-- Events: none: a pause is no event of the task's
local now = clock()
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. FIRST_TIMESTAMP, 'LIMIT', ARGV[1], ARGV[2])
local passed = 0
for _, id in ipairs(ids) do
  local task = fields(id, { 'tool', unpack(ORDERING_FIELDS) })
  local why = is_legal('claim', task.status) and paused_of(task.queue, task.tool)
  if why then
    hold(id, task, why, now)
  else
    passed = passed + 1
  end
end
return { #ids, passed }
