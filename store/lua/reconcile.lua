-- Repairs what other programs, or a stock arq worker, took from the queue: afterwards every open task can be reached.
-- KEYS: 1 live
-- ARGV: 1 first rank, 2 last rank, 3 lease ms
-- Returns: {tasks checked, tasks repaired}; a task that is held although nothing of it is paused any more is one of these
-- Events: none: what a reader sees of a task does not change
local now, precise = clock()
local ids = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2])
local repaired, queues, held = 0, {}, {}

-- Whether a task rightly waits outside its queue: for a slot in a lane that has none free.
local function waits_for_lane(id, task)
  return task.lane and redis.call('ZSCORE', K.lane_queue(task.lane), id) and not has_room(task.lane, task.lane_limit)
end

local function requeue_lost(id, task)
  local is_idle = task.status == TO.create
  local due = math.max(tonumber(task.due_ms or '') or 0, tonumber(task.not_before_ms or '') or 0)
  if is_parked(task) then
    redis.call('ZADD', K.queue(task.queue), parked_until(task), id)
  elseif is_idle and due > precise then
    redis.call('ZADD', K.queue(task.queue), due, id)
  elseif is_idle then
    if task.lane then
      redis.call('ZREM', K.lane_queue(task.lane), id)
    end
    join_queue(id, task, now, true)
  else
    redis.call('ZADD', K.queue(task.queue), now + tonumber(ARGV[3]), id)
  end
  wake(task.queue)
end

-- A held task that is not to be held any more: its pause has ended, or the time of the task has, which a claim then notices.
local function end_hold(id, task)
  if not paused_of(task.queue, task.tool) then
    unhold(id, task, now)
    repaired = repaired + 1
  elseif task.deadline_ms and tonumber(task.deadline_ms) <= now then
    redis.call('ZADD', K.queue(task.queue), now, id)
    wake(task.queue)
  end
end

for _, id in ipairs(ids) do
  local task = fields(id, { 'due_ms', 'not_before_ms', 'worker', 'deadline_ms', 'tool', unpack(ORDERING_FIELDS) })
  if not is_legal('cancel', task.status) then
    redis.call('ZREM', KEYS[1], id)
    repaired = repaired + 1
  else
    queues[task.queue] = true
    if redis.call('SETNX', K.job(id), '{"f":"taskmill","a":["' .. id .. '"],"k":{},"t":null,"et":' .. now .. '}') == 1 then
      repaired = repaired + 1
    end
    if task.status == TO.create and redis.call('DEL', K.in_progress(id)) == 1 then
      repaired = repaired + 1
    end
    local score = redis.call('ZSCORE', K.queue(task.queue), id)
    if score and tonumber(score) >= HELD then
      held[#held + 1] = { id = id, task = task, score = tonumber(score) }
    elseif not score and not waits_for_lane(id, task) then
      requeue_lost(id, task)
      repaired = repaired + 1
    end
  end
end

-- In the order in which they were held: `live` has tasks of one millisecond by their ids.
table.sort(held, function(a, b)
  return a.score < b.score
end)
for _, one in ipairs(held) do
  end_hold(one.id, one.task)
end

-- An ordering that is never empty would remember every principal that ever had a task in it: some of those whose tasks
-- have all been served are deleted.
for queue in pairs(queues) do
  local ordering = K.ordering(queue)
  local served = tonumber(redis.call('HGET', ordering, 'served') or 0)
  local some = redis.call('HLEN', ordering) > 1000 and redis.call('HRANDFIELD', ordering, 500, 'WITHVALUES') or {}
  for i = 1, #some, 2 do
    if some[i]:find(' ', 1, true) and tonumber(some[i + 1]) <= served then
      redis.call('HDEL', ordering, some[i])
    end
  end
end
return { #ids, repaired }
