-- Counts tasks, for graphs; its cost does not grow with their number.
-- KEYS: none
-- ARGV: 1 tasks of a queue whose state is read, at most, among those that are not due; 2... names of queues
-- Returns: {now ms, open tasks, tasks kept, dead letters, undelivered webhooks, ended so far as `<outcome> <queue>`, number...,
--           {queue, tasks in it, due tasks, ms since the next of them was due, held tasks, state, number...}...}
-- Events: none
local now, precise = clock()
local counts = { redis.call('ZCARD', K.live), redis.call('ZCARD', K.all), redis.call('ZCARD', K.dead) }
local reply = { now, counts[1], counts[2], counts[3], redis.call('ZCARD', K.webhooks), redis.call('HGETALL', K.ended) }

-- How long the task at the head of a queue has been due, in ms: a position is no time.
local function waiting_ms(id, score)
  local since = score
  if score < FIRST_TIMESTAMP then
    local task = fields(id, { 'created_ms', 'due_ms', 'not_before_ms' })
    since = math.max(tonumber(task.created_ms or now), tonumber(task.due_ms) or 0, tonumber(task.not_before_ms) or 0)
  end
  return math.floor(math.max(0, now - since))
end

for i = 2, #ARGV do
  local queue = K.queue(ARGV[i])
  local due = redis.call('ZCOUNT', queue, '-inf', precise)
  local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  local held = redis.call('ZCOUNT', queue, HELD, '+inf')
  local others = redis.call('ZRANGEBYSCORE', queue, '(' .. string.format('%.17g', precise), '(' .. HELD, 'LIMIT', 0, ARGV[1])
  local states = {}
  for _, id in ipairs(others) do
    local state = redis.call('HGET', K.record(id), 'status') or 'gone'
    states[state] = (states[state] or 0) + 1
  end
  local row = { ARGV[i], redis.call('ZCARD', queue), due, due > 0 and waiting_ms(head[1], tonumber(head[2])) or 0, held }
  for state, number in pairs(states) do
    row[#row + 1], row[#row + 2] = state, number
  end
  reply[#reply + 1] = row
end
return reply
