-- Saves the latest progress of running tasks; a report that changes nothing makes no event.
-- KEYS: none
-- ARGV: id, fence, done, total, message ('' = None), repeated
-- Returns: {id...} of the leases that are lost
-- Events: progress
local now = clock()
local lost = {}
announced = {}
for i = 1, #ARGV, 5 do
  local id, done, total, message = ARGV[i], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local task = load(id, 'done', 'total', 'message')
  if not owns(task, ARGV[i + 1], 'progress') then
    lost[#lost + 1] = id
  elseif (task.done or '') ~= done or (task.total or '') ~= total or (task.message or '') ~= message then
    append(id, task, moment_of(task, now), 'progress', { 'done', done, 'total', total, 'message', message })
  end
end
publish_all()
return lost
