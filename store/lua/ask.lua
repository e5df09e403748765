-- Puts questions to the client. A question that an earlier attempt asked keeps its key and its answer.
-- KEYS: 1 inputs
-- ARGV: 1 id, 2 fence, then key, digest, request, repeated
-- Returns: {'asked', answer or false...} in the order of the questions | {'lost'} | {'mismatch', key}
-- Events: ask, when at least one question is open; none when the same was asked before and still waits
local id = ARGV[1]
local task = load(id, 'questions')
if not owns(task, ARGV[2], 'ask') then
  return { 'lost' }
end
local reply, fresh, waiting = { 'asked' }, 0, 0
for i = 3, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], 'd:' .. ARGV[i])
  if known and known ~= ARGV[i + 1] then
    return { 'mismatch', ARGV[i] }
  end
end
for i = 3, #ARGV, 3 do
  local key = ARGV[i]
  if redis.call('HSETNX', KEYS[1], 'd:' .. key, ARGV[i + 1]) == 1 then
    redis.call('HSET', KEYS[1], 'q:' .. key, ARGV[i + 2])
    fresh = fresh + 1
  end
  local answer = redis.call('HGET', KEYS[1], 'a:' .. key)
  if not answer then
    waiting = waiting + 1
  end
  reply[#reply + 1] = answer
end
if waiting > 0 and (fresh > 0 or task.status ~= TO.ask) then
  append(id, task, moment_of(task, clock()), 'ask', { 'questions', digits((task.questions or 0) + fresh) })
end
return reply
