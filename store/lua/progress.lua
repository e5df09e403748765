-- Keeps the latest progress of running tasks; a report that changes nothing leaves no event.
-- KEYS: none
-- ARGV: id, fence, done, total, message ('' = None), again and again
-- Returns: {id...} of the leases that are lost
-- Events: progress
local now = clock()
local lost = {}
for i = 1, #ARGV, 5 do
  local id, done, total, message = ARGV[i], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  if not holds(id, ARGV[i + 1], 'progress') then
    lost[#lost + 1] = id
  else
    local last = redis.call('HMGET', K.record(id), 'done', 'total', 'message')
    if (last[1] or '') ~= done or (last[2] or '') ~= total or (last[3] or '') ~= message then
      append(id, moment_of(id, now), 'progress', { 'done', done, 'total', total, 'message', message })
    end
  end
end
return lost
