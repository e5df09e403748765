-- Keeps the latest progress of running tasks; a report that changes nothing leaves no event.
-- KEYS: none
-- ARGV: id, fence, done, total, message ('' = None), again and again
-- Returns: {id...} of the leases that are lost
-- Events: progress
local now = clock()
local lost = {}
for i = 1, #ARGV, 5 do
  local id, done, total, message = ARGV[i], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local was = load(id, 'done', 'total', 'message')
  if not holds(was, ARGV[i + 1], 'progress') then
    lost[#lost + 1] = id
  elseif (was.done or '') ~= done or (was.total or '') ~= total or (was.message or '') ~= message then
    append(id, was, moment_of(was, now), 'progress', { 'done', done, 'total', total, 'message', message })
  end
end
return lost
