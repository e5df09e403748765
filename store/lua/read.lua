-- Reads a task, consistently, in one round trip.
-- KEYS: 1 record, 2 result, 3 inputs
-- ARGV: 1 id, 2 principal ('' = an operator, any)
-- Returns: false, also for another principal's task | {record as name, value..., outcome, questions as key, request...,
--          tasks ahead or -1}
-- Events: none
local record = redis.call('HGETALL', KEYS[1])
local field = {}
for i = 1, #record, 2 do
  field[record[i]] = record[i + 1]
end
if not field.principal or (ARGV[2] ~= '' and field.principal ~= ARGV[2]) then
  return false
end
local questions, ahead = {}, -1
if field.status == TO.create then
  ahead = ahead_of(ARGV[1], field)
elseif field.status == TO.ask then
  local inputs = redis.call('HGETALL', KEYS[3])
  for i = 1, #inputs, 2 do
    if inputs[i]:sub(1, 2) == 'q:' then
      questions[#questions + 1] = inputs[i]:sub(3)
      questions[#questions + 1] = inputs[i + 1]
    end
  end
end
return { record, redis.call('GET', KEYS[2]), questions, ahead }
