-- Ends tasks with their outcomes. Repeating the same call is safe: the second is answered 'already'.
-- KEYS: none
-- ARGV: id, fence, move (complete or fail), outcome, reason ('' for a success or an error of the tool's own), again and again
-- Returns: 'finished' | 'already' | 'lost'; a list of them, or of errors, when there is more than one task
-- Events: complete or fail
local now = clock()
local ASKED = { 'status', 'fence', 'seq', 'updated_ms', unpack(ENDING) }

local function finish(id, fence, move, outcome, reason)
  local was = fields(id, ASKED)
  if not holds(was, fence, move) then
    local same = was.fence == fence and was.status == TO[move]
    return same and redis.call('GET', K.result(id)) == outcome and 'already' or 'lost'
  end
  settle(id, was, moment_of(was, now), move, { 'reason', reason }, TO[move] == TO.complete and reason == '')
  redis.call('SET', K.result(id), outcome, 'PX', was.retention_ms)
  return 'finished'
end

if #ARGV == 5 then
  local reply = finish(unpack(ARGV))
  clear_away()
  return reply
end
local replies = {}
for i = 1, #ARGV, 5 do
  -- One damaged record must not keep the others from being settled.
  local done, reply = pcall(finish, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
  local is_text = type(reply) == 'string' -- what Redis 7 raises is an error reply already
  replies[#replies + 1] = not done and is_text and redis.error_reply(reply) or reply
end
clear_away()
return replies
