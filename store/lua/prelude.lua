-- What the scripts share: the clock, the event writer, the end of a task.
-- `store/scripts.py` puts the engine's table of moves before this text and ordering.lua, as FROM[move] (states between
-- blanks) and TO[move] (state). Of both texts it takes those blocks between blank lines that a script needs, and it
-- replaces K.name(id) and K.name by keys. Nothing here is a move of its own.

local HISTORY = 10000 -- events kept of one task; older ones, which are progress, are deleted

local PARKED = 32503680000000 -- when a parked task is due, in ms: never

-- One clock for all: Redis's. Returns whole milliseconds, and milliseconds with their fraction (for the order within one).
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000), t[1] * 1000 + t[2] / 1000
end

-- A record's fields by name, false where it has none: those that every move reads, and those that this one names.
local function load(id, ...)
  return fields(id, { 'status', 'fence', 'seq', 'updated_ms', ... })
end

-- Time of a task's next event: never before its last one, so that updated_ms only grows.
local function moment_of(task, now)
  return math.max(now, tonumber(task.updated_ms or 0))
end

-- Whether a queue or a tool is paused, and whether a stock arq worker has claimed here; known once `lowest_fence` was called,
-- which reads both with the fences.
local has_pauses, has_stock_workers = false, false

-- The lowest fence that may be given out. It is 0 on a Redis that was always the primary. After a promotion or a restart
-- its data has another history; then it is the time at which that was noticed, in ms, which is above every fence that may
-- have been lost. Should the clock have gone back, it is a million above the one before.
local function lowest_fence()
  local info = redis.pcall('INFO', 'replication')
  local history = type(info) == 'string' and info:match('master_replid:(%x+)')
  local known = redis.call('HMGET', K.epoch, 'history', 'floor', 'paused', 'stock')
  has_pauses, has_stock_workers = known[3], known[4]
  if not history then
    return 0 -- this user may not run INFO, or this Redis does not report it
  end
  if known[1] == history then
    return tonumber(known[2])
  end
  local is_new = not known[1] and info:find('master_replid2:0000000000', 1, true)
  local floor = is_new and 0 or math.max(clock(), (known[2] or 0) + 1000000)
  redis.call('PERSIST', K.epoch) -- a first write that a full Redis does not refuse
  redis.call('HSET', K.epoch, 'history', history, 'floor', floor)
  return floor
end

-- The fence that follows this one.
local known_floor
local function next_fence(fence)
  known_floor = known_floor or lowest_fence()
  return math.max(fence + 1, known_floor)
end

-- A whole number as text, converted once: Redis would convert it, with 17 digits, for every command that gets it.
local texts = {}
local function digits(number)
  local text = texts[number] or ('%d'):format(number)
  texts[number] = text
  return text
end

-- Channel, number of each event that this call has to publish, while a script that moves many tasks collects them.
local announced

local ASKED_AT_ONCE = 2000 -- twice as many as tasks: Lua passes some 8,000 values at most
-- Publishes what was collected to those who follow the tasks; most tasks no one does. A script that collects calls it last.
-- In a cluster followers may be connected to another node, of which this one does not know.
local function publish_all()
  for first = 1, #announced, ASKED_AT_ONCE do
    local last, channels = math.min(first + ASKED_AT_ONCE - 1, #announced), {}
    for i = first, last, 2 do
      channels[#channels + 1] = announced[i]
    end
    -- For one event it would be no less. A user that may not ask publishes.
    local followers = #channels > 1 and not IN_CLUSTER and redis.pcall('PUBSUB', 'NUMSUB', unpack(channels))
    for i = first + 1, last, 2 do
      if not followers or followers.err or followers[i - first + 1] ~= 0 then
        redis.call('PUBLISH', announced[i - 1], announced[i])
      end
    end
  end
  announced = nil
end

-- Moves that are made in a full Redis too.
local MAKES_ROOM = { claim = 1, reclaim = 1, release = 1, park = 1, complete = 1, fail = 1, cancel = 1, overdue = 1 }

-- Makes a move: facts (flat name, value list, all strings; '' = None) go to record and history, `also` to the record alone;
-- then the event's number is published. `task`: the record as loaded. The list of facts is changed; do not use it again.
local function append(id, task, at, move, facts, also)
  local record, number = K.record(id), (task.seq or 0) + 1
  local seq = digits(number)
  at = digits(at)
  local event = cmsgpack.pack({ seq, move, at, unpack(facts) })
  if type(redis.pcall('RPUSH', K.events(id), event)) == 'table' then
    -- Redis is full, and refuses a script's first write if that needs memory. Once it has written, no write is refused:
    -- so ends, cancels, claims and releases, which make room, always fit. What only adds to a task does not.
    if not MAKES_ROOM[move] then
      redis.call('RPUSH', K.events(id), event)
    end
    redis.call('PERSIST', record)
    redis.call('RPUSH', K.events(id), event)
  end
  if number > HISTORY then
    redis.call('LTRIM', K.events(id), -HISTORY, -1)
  end
  for i = 1, also and #also or 0 do
    facts[#facts + 1] = also[i]
  end
  if TO[move] then
    redis.call('HSET', record, 'seq', seq, 'updated_ms', at, 'status', TO[move], unpack(facts))
  else
    redis.call('HSET', record, 'seq', seq, 'updated_ms', at, unpack(facts))
  end
  if announced then
    announced[#announced + 1], announced[#announced + 2] = record, seq
  else
    redis.call('PUBLISH', record, seq)
  end
end

-- Bytes of a key whose length says little, 0 if this user may not ask.
local function size_of(key)
  return tonumber(redis.pcall('MEMORY', 'USAGE', key) or 0) or 0
end

-- Lets what a task has besides its record - output, artifacts, errors of attempts - expire when the record does. Returns
-- how many bytes that is.
local function expire_outputs(id, now, retention)
  local bytes = size_of(K.output(id)) + size_of(K.errors(id))
  redis.call('PEXPIRE', K.output(id), retention)
  redis.call('PEXPIRE', K.errors(id), retention)
  redis.call('PEXPIRE', K.artifacts(id), retention)
  for _, artifact in ipairs(redis.call('SMEMBERS', K.artifacts(id))) do
    redis.call('PEXPIRE', K.artifact(artifact), retention)
    redis.call('PEXPIRE', K.blob(artifact), retention)
    redis.call('ZADD', K.outside, 'XX', now + retention, artifact)
    bytes = bytes + redis.call('STRLEN', K.blob(artifact))
  end
  return bytes
end

-- What a task takes in Redis at least once it has ended, in bytes.
local RECORD = 1024

-- What a principal keeps is counted in sums, each of all that expires before one moment, which is the sum's name: so what
-- has expired is counted no longer, and no one has to remove it. A sum is `tasks * TASK + kilobytes`.
local TASK = 2 ^ 32

-- The sum for what expires `length` ms from now: at an eighth of that later, at most.
local function sum_of(now, length)
  local _, exponent = math.frexp(math.max(8192, length) / 8)
  local width = 2 ^ (exponent - 1)
  return math.ceil((now + length) / width) * width
end

-- What has been added to sums of principals in this call, by key and sum, until `apply_sums`.
local added = {}

-- Counts tasks (0 or 1) and bytes for a principal. Without authentication all callers are one, and nothing is counted.
local function count_kept(principal, sum, tasks, bytes)
  if principal == 'anonymous' or principal == 'local' then
    return
  end
  local key = K.kept(principal)
  added[key] = added[key] or {}
  added[key][sum] = (added[key][sum] or 0) + tasks * TASK + math.ceil(bytes / 1024)
end

local function apply_sums()
  for key, sums in pairs(added) do
    local now = clock()
    for sum, amount in pairs(sums) do
      if redis.call('HINCRBY', key, digits(sum), digits(amount)) == amount and redis.call('PTTL', key) < sum - now then
        redis.call('PEXPIRE', key, digits(sum - now))
      end
    end
  end
  added = {}
end

-- What a move that may end a task loads. (A table that is written out is made at once, not field by field.)
local function load_ending(id)
  local value = redis.call('HMGET', K.record(id), 'status', 'fence', 'seq', 'updated_ms', 'queue', 'principal', 'retention_ms',
    'once', 'listed_for', 'left', 'lane', 'counted', 'questions', 'tool', 'webhook')
  return { status = value[1], fence = value[2], seq = value[3], updated_ms = value[4], queue = value[5], principal = value[6],
    retention_ms = value[7], once = value[8], listed_for = value[9], left = value[10], lane = value[11], counted = value[12],
    questions = value[13], tool = value[14], webhook = value[15] }
end

-- Which sets the tasks that end in this call must leave or join, by key, and which keys they leave, until `apply_removals`.
local removals, expiring, ended_counts, deletions = {}, {}, {}, {}

local function remove_later(set, id)
  local ids = removals[set]
  if ids then
    ids[#ids + 1] = id
  else
    removals[set] = { id }
  end
end

-- Kinds of endings that are counted apart, for each queue and tool; what has no room is counted without its tool.
local KINDS = 1000

local function count_ending(kind, count)
  if redis.call('HINCRBY', K.ended, kind, count) == count and redis.call('HLEN', K.ended) > KINDS then
    redis.call('HDEL', K.ended, kind)
    redis.call('HINCRBY', K.ended, kind:match('^%S+ %S+'), count)
  end
end

-- Takes the tasks that ended in this call out of every shared set, all at once. A script that ends tasks must call it last.
local function apply_removals()
  for set, ids in pairs(removals) do
    redis.call('ZREM', set, unpack(ids))
  end
  if #deletions > 0 then
    redis.call('DEL', unpack(deletions))
  end
  for kind, count in pairs(ended_counts) do
    count_ending(kind, count)
  end
  if #expiring > 0 then
    redis.call('ZADD', K.fading, unpack(expiring))
  end
  removals, expiring, ended_counts, deletions = {}, {}, {}, {}
  apply_sums()
end

-- How a task in this state ended, in one word, as TaskRecord.outcome_kind says; an open state is returned as it is.
local function outcome_kind(status, reason)
  return status ~= TO.complete and status or (reason or '') == '' and 'succeeded' or reason
end

-- Counts for its principal what an ended task keeps: `bytes` and its history. Arguments that were counted while it was open
-- are counted no longer if they are deleted.
local function count_ended(task, at, bytes, succeeded)
  local kept = tonumber(task.retention_ms)
  if (task.counted or '') ~= '' then
    local sum, kilobytes = task.counted:match('^(%d+) (%d+)$')
    if tonumber(sum) > at then
      count_kept(task.principal, tonumber(sum), 0, -1024 * kilobytes)
    end
    bytes = bytes + (succeeded and 0 or 1024 * kilobytes)
  end
  count_kept(task.principal, sum_of(at, kept), 1, bytes + RECORD)
end

-- How long an undelivered webhook is kept: 30 days, in ms.
local DELIVERIES_KEPT = 2592000000

-- How many are kept; the oldest go first. A receiver that is away must not fill Redis.
local MOST_DELIVERIES = 100000

-- Whose queue it is; the same for all commands that develop one file.
local function app_of(queue)
  return queue:match('^([^/+]*)[^/]*/') or ''
end

-- Notes that an ended task is to be sent to its webhook, with the record in a hash of its own: the task itself may expire first.
local function add_delivery(id, task, at)
  redis.call('HSET', K.webhook(id), unpack(redis.call('HGETALL', K.record(id))))
  redis.call('PEXPIRE', K.webhook(id), DELIVERIES_KEPT)
  redis.call('ZREMRANGEBYSCORE', K.webhooks, '-inf', at - 3 * DELIVERIES_KEPT) -- whose hashes have expired
  local app = app_of(task.queue)
  for _, set in ipairs({ K.webhooks, K.deliveries(app) }) do
    redis.call('ZADD', set, at, id)
    redis.call('PEXPIRE', set, DELIVERIES_KEPT)
  end
  if redis.call('ZCARD', K.webhooks) > MOST_DELIVERIES then
    local oldest = redis.call('ZPOPMIN', K.webhooks)[1]
    redis.call('DEL', K.webhook(oldest)) -- what is left of it goes when it would be taken
  end
end

-- Ends a task: writes the last event, takes it out of every queue and set (by `apply_removals`), deletes lease and
-- questions, and keeps the rest for the retention. The arguments of a task that succeeded are deleted too, because it will
-- not run again. A task that broke becomes a dead letter. `task`: from `load_ending`; `facts` end with the reason; `size`:
-- bytes of its outcome, if it has one.
local function settle(id, task, at, move, facts, succeeded, size)
  local kept, reason = task.retention_ms, facts[#facts]
  local also = { 'ended_ms', digits(at) }
  if task.questions then
    also[3], also[4] = 'questions', '0'
    deletions[#deletions + 1] = K.inputs(id)
  end
  append(id, task, at, move, facts, also)
  remove_later(K.queue(task.queue), id)
  if task.lane then
    leave_lane(id, task.lane, at)
  end
  remove_later(K.live, id)
  remove_later(K.open(task.principal), id)
  local n = #deletions
  deletions[n + 1], deletions[n + 2], deletions[n + 3], deletions[n + 4] = K.journal(id), K.job(id), K.in_progress(id), K.retry(id)
  redis.call('PEXPIRE', K.record(id), kept)
  redis.call('PEXPIRE', K.events(id), kept)
  if succeeded then
    deletions[n + 5] = K.args(id)
  else
    redis.call('PEXPIRE', K.args(id), kept)
  end
  if TO[move] ~= TO.cancel and reason ~= '' and reason ~= 'tool_error' then
    redis.call('ZADD', K.dead, at, id)
  end
  -- Without the stack of a `taskmill call`: each has one of its own, and the counts are kept for ever.
  local ending = outcome_kind(TO[move], reason)
  local kind = ending .. ' ' .. task.queue:gsub('%+[^/]*', '', 1) .. ' ' .. (task.tool or '')
  ended_counts[kind] = (ended_counts[kind] or 0) + 1
  expiring[#expiring + 1] = digits(at + kept)
  expiring[#expiring + 1] = task.listed_for and id .. ' ' .. task.listed_for or id
  local bytes = (size or 0) + (tonumber(task.seq or 0) > 64 and size_of(K.events(id)) or 0)
  if task.left then
    bytes = bytes + expire_outputs(id, at, kept)
  end
  count_ended(task, at, bytes, succeeded)
  if task.once and succeeded then
    redis.call('PEXPIRE', K.once(task.principal .. ':' .. task.once), kept)
  elseif task.once then
    redis.call('DEL', K.once(task.principal .. ':' .. task.once)) -- the same call may now try again
  end
  if task.webhook and task.webhook:find(ending, 1, true) then
    add_delivery(id, task, at)
  end
end

-- Whether the caller with this fence still owns a loaded task, and the move is legal now.
local function owns(task, fence, move)
  return task.fence == fence and is_legal(move, task.status)
end

-- An outcome of so many bytes must find room: in a full Redis it is refused, and the caller may send a smaller one.
local LARGE = 65536

-- Ends a task with its outcome. The same call again is safe: 'already'. 'lost': the caller owns the task no longer.
-- 'full': there is no room for an outcome of this size; nothing has changed.
local function finish(now, id, fence, move, outcome, reason)
  local task = load_ending(id)
  if not owns(task, fence, move) then
    local same = task.fence == fence and task.status == TO[move]
    return same and redis.call('GET', K.result(id)) == outcome and 'already' or 'lost'
  end
  -- Before anything else is written: only a first write is refused for want of memory.
  local is_large = #outcome > LARGE
  if is_large then
    local refused = redis.pcall('SET', K.result(id), outcome, 'PX', task.retention_ms).err
    if refused and refused:find('OOM', 1, true) then
      return 'full'
    elseif refused then
      redis.call('SET', K.result(id), outcome, 'PX', task.retention_ms) -- for its error
    end
  end
  local succeeded = TO[move] == TO.complete and reason == ''
  settle(id, task, moment_of(task, now), move, { 'reason', reason }, succeeded, #outcome)
  if not is_large then
    redis.call('SET', K.result(id), outcome, 'PX', task.retention_ms)
  end
  return 'finished'
end

-- Ends tasks: ARGV has id, fence, move, outcome, reason of each from `first` to `last`. Returns a reply or an error for each.
local function finish_all(now, first, last)
  local replies = {}
  for i = first, last, 5 do
    -- One damaged record must not prevent the end of the others.
    local done, reply = pcall(finish, now, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
    local is_text = type(reply) == 'string' -- what Redis 7 raises is already an error reply
    replies[#replies + 1] = not done and is_text and redis.error_reply(reply) or reply
  end
  apply_removals()
  return replies
end

-- Takes expired tasks off the lists, oldest first: `most` at most.
local function purge_expired(now, most)
  local expired, ids = redis.call('ZRANGEBYSCORE', K.fading, '-inf', '(' .. now, 'LIMIT', 0, most), {}
  if #expired == 0 then
    return
  end
  for i, entry in ipairs(expired) do
    local id, list_owner = entry:match('^(%S+) ?(.*)$')
    ids[i] = id
    if list_owner ~= '' then
      redis.call('ZREM', K.list(list_owner), id)
    end
  end
  redis.call('ZREM', K.fading, unpack(expired))
  redis.call('ZREM', K.all, unpack(ids))
  redis.call('ZREM', K.dead, unpack(ids))
end

-- Whether a loaded task (with its worker) waits for answers and no worker has it.
local function is_parked(task)
  return is_legal('wake', task.status) and (task.worker or '') == ''
end

-- When a parked task is due although no answer came: at its deadline.
local function parked_until(task)
  return tonumber(task.deadline_ms or PARKED)
end

