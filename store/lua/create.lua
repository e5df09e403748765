-- Creates tasks: of each idempotency, quotas, then record, arguments, event, arq's job and queue entry, all in one step. What
-- goes into one key for all of them is written at once.
-- KEYS: 1 record of the first task
-- ARGV: of each task, one after the other, what `create` names
-- Returns: {of each task: {'created', id, ahead, now ms} | {'exists', id} | {'reused', id of the key's task}
--           | {'quota', 'principal' or 'all', limit, used} | {'quota', 'tasks' or 'bytes', limit, used, ms until some expires}
--           | {'fired'}: the firing has its task, or a later one has | an error}; the error, where there is one task
-- Events: create
local COUNTED = 4096 -- bytes of arguments that are counted while a task is open; of less, the number of tasks is limit enough
local OPEN_FOR = 7 * 86400000 -- ms for which the arguments of an open task are counted
local ARGUMENTS = 27 -- of each task
local AFTER = 0.001 -- ms between two tasks of this call in a list, so that they keep their order

local now, precise = clock()
local at = digits(now)
local created, created_by = 0, {} -- how many tasks this call has created, and of each principal
local is_one = #ARGV == ARGUMENTS -- then it is written at once
local strings, additions, groups = {}, {}, {} -- what is to be written of several

local stored_open -- how many tasks were open before this call, once it was read

-- Why the principal may keep no more, false if it may; and the names of sums that are counted no longer.
local function keeps_too_much(principal, most_tasks, most_kilobytes, argument_bytes)
  local tasks, kilobytes, next_end, expired = 0, 0, math.huge, {}
  local sums = redis.call('HGETALL', K.kept(principal))
  for i = 1, #sums, 2 do
    local ends, sum = tonumber(sums[i]), tonumber(sums[i + 1])
    if ends > now then
      local whole = math.floor(sum / TASK)
      tasks, kilobytes, next_end = tasks + whole, kilobytes + sum - whole * TASK, math.min(next_end, ends)
    else
      expired[#expired + 1] = sums[i]
    end
  end
  local wait = next_end == math.huge and 0 or next_end - now
  if most_tasks ~= 0 and tasks >= most_tasks then
    return { 'quota', 'tasks', most_tasks, tasks, wait }, expired
  end
  kilobytes = kilobytes + math.ceil(argument_bytes / 1024)
  return most_kilobytes ~= 0 and kilobytes > most_kilobytes and { 'quota', 'bytes', most_kilobytes, kilobytes, wait }, expired
end

local function add(set, score, id)
  local entries = additions[set]
  if is_one then
    redis.call('ZADD', set, score, id)
  elseif entries then
    entries[#entries + 1], entries[#entries + 2] = score, id
  else
    additions[set] = { score, id }
  end
end

local function add_fact(facts, name, value)
  if value ~= '' then
    facts[#facts + 1], facts[#facts + 2] = name, value
  end
end

-- Numbers are those of ARGV as text; '' where there is none.
-- id; arguments; arq's job; tool; queue; principal; ms of retention and between polls; idempotency key; open tasks allowed to
-- the principal and to all (0 = no limit, -1 = none); list owner; id of the task it repeats; digest of what the key stands
-- for; retries; ms after which it must have ended; priority; lane, how many tasks of it may run, and its rate as `n/ms` or
-- `n/ms/start`; tasks and kilobytes that the principal may keep (0 = no limit); signature of owner, tool and list, if there
-- are seal keys; before which ms since 1970 it may not start; the ends that are sent to its webhook; the firing that it is
-- made for, as lines: its time in ms, name of the schedule, the schedule; name of the client's program.
local function create(id, arguments, job, tool, queue, principal, retention, poll, once, own_limit, total_limit, list_owner,
    rerun_of, digest, retries, time_limit, priority, lane, lane_limit, rate, most_tasks, most_kilobytes, signature,
    not_before, webhook, firing, client)
  local idempotency = once ~= '' and K.once(principal .. ':' .. once)
  local used = idempotency and redis.call('GET', idempotency)
  if used then
    local first, first_digest = used:match('^(%S+) ?(.*)$')
    if first ~= id and redis.call('EXISTS', K.record(id)) == 1 then -- sent again, and a later task has the key by now
      return { 'exists', id }
    end
    if redis.call('EXISTS', K.record(first)) == 1 then
      return { digest == first_digest and 'exists' or 'reused', first }
    end
  end
  local fired_at, schedule_name, schedule = firing:match('^(%d+)\n([^\n]*)\n(.*)$')
  if fired_at then
    local seen = redis.call('HGET', K.schedules, schedule_name)
    if seen and tonumber(seen:match('^%d+')) >= tonumber(fired_at) then
      return { 'fired' }
    end
  end
  local argument_bytes, expired_sums = #arguments > COUNTED and #arguments or 0, {}
  local mine, all, open, refusal = tonumber(own_limit), tonumber(total_limit), 0, nil
  if mine ~= 0 or all ~= 0 then
    stored_open = stored_open or redis.call('ZCARD', K.live)
    open = stored_open + created
    refusal = all ~= 0 and open >= all and { 'quota', 'all', all, open }
  end
  if mine ~= 0 and open >= mine then -- a principal has no more than there are
    local own = redis.call('ZCARD', K.open(principal)) + (created_by[principal] or 0)
    refusal = own >= mine and { 'quota', 'principal', mine, mine } or refusal
  end
  if not refusal and (most_tasks ~= '0' or most_kilobytes ~= '0') then
    refusal, expired_sums = keeps_too_much(principal, tonumber(most_tasks), tonumber(most_kilobytes), argument_bytes)
  end
  if refusal and redis.call('EXISTS', K.record(id)) == 0 then
    return refusal
  end

  local facts = { 'tool', tool, 'queue', queue, 'principal', principal, 'retention_ms', retention, 'poll_ms', poll }
  add_fact(facts, 'rerun_of', rerun_of)
  add_fact(facts, 'retries', retries)
  add_fact(facts, 'deadline_ms', time_limit ~= '' and digits(now + time_limit) or '')
  add_fact(facts, 'priority', priority ~= '0' and priority or '')
  add_fact(facts, 'lane', lane)
  add_fact(facts, 'lane_limit', lane ~= '' and lane_limit or '')
  add_fact(facts, 'rate', rate)
  local delay = math.max(0, (tonumber(not_before) or 0) - now)
  add_fact(facts, 'not_before_ms', delay > 0 and not_before or '')
  -- The first write, which a full Redis refuses. A history that has already begun: this is the same call again, after a lost
  -- reply.
  local length = redis.call('RPUSH', K.events(id), cmsgpack.pack({ '1', 'create', at, unpack(facts) }))
  if fired_at then
    redis.call('HSET', K.schedules, schedule_name, fired_at .. ' ' .. id .. '@' .. fired_at .. ' ' .. schedule)
  end
  if length > 1 then
    redis.call('RPOP', K.events(id))
    return redis.call('EXISTS', K.record(id)) == 1 and { 'exists', id } or redis.error_reply('ERR a history without a record')
  end
  add_fact(facts, 'listed_for', list_owner)
  add_fact(facts, 'once', once)
  add_fact(facts, 'signed', signature)
  add_fact(facts, 'webhook', webhook)
  add_fact(facts, 'client', client)
  if argument_bytes > 0 then
    local sum = sum_of(now, math.max(OPEN_FOR, retention) + delay)
    add_fact(facts, 'counted', digits(sum) .. ' ' .. digits(math.ceil(argument_bytes / 1024)))
    count_kept(principal, sum, 0, argument_bytes)
    apply_sums()
  end
  redis.call('HSET', K.record(id), 'seq', '1', 'status', TO.create, 'created_ms', at, 'updated_ms', at, 'fence', '0',
    'attempt', '0', unpack(facts))
  local due = ('%.3f'):format(precise + created * AFTER)
  if is_one then
    redis.call('MSET', K.args(id), arguments, K.job(id), job)
  else
    local n = #strings
    strings[n + 1], strings[n + 2], strings[n + 3], strings[n + 4] = K.args(id), arguments, K.job(id), job
  end
  add(K.live, at, id)
  add(K.all, due, id)
  add(K.open(principal), at, id)
  if list_owner ~= '' then
    add(K.list(list_owner), due, id)
  end
  if idempotency then
    redis.call('SET', idempotency, id .. ' ' .. digest) -- has no TTL: it is deleted with the task, however long that takes
  end
  if rerun_of ~= '' and redis.call('EXISTS', K.record(rerun_of)) == 1 then
    redis.call('HSET', K.record(rerun_of), 'rerun_as', id)
    redis.call('ZREM', K.dead, rerun_of)
  end
  if #expired_sums > 0 then
    redis.call('HDEL', K.kept(principal), unpack(expired_sums))
  end
  created, created_by[principal] = created + 1, (created_by[principal] or 0) + 1
  -- Tasks of one principal and priority join a queue together; those of lanes, and those that may only start later, one by one.
  local is_alone = lane ~= '' or delay > 0
  local name = is_alone and id or queue .. ' ' .. principal .. ' ' .. priority
  local group, reply = groups[name], { 'created', id, 0, now }
  if group then
    local position = #group.ids + 1
    group.ids[position], group.replies[position] = id, reply
  else
    group = { ids = { id }, replies = { reply }, due = delay > 0 and not_before,
      task = { queue = queue, principal = principal, priority = priority, lane = lane ~= '' and lane, lane_limit = lane_limit } }
    groups[name], groups[#groups + 1] = group, group
  end
  return reply
end

local replies = {}
for first = 1, #ARGV, ARGUMENTS do
  -- One damaged key must not prevent the creation of the others.
  local done, reply = pcall(create, unpack(ARGV, first, first + ARGUMENTS - 1))
  local is_text = type(reply) == 'string' -- what Redis 7 raises is already an error reply
  replies[#replies + 1] = not done and is_text and redis.error_reply(reply) or reply
end

if #strings > 0 then
  redis.call('MSET', unpack(strings))
end
if created > 0 then
  for set, entries in pairs(additions) do
    redis.call('ZADD', set, unpack(entries))
  end
  purge_expired(now, 4 * created) -- more than this call adds, so that lists hold few expired tasks
end
local alone = false
for _, group in ipairs(groups) do
  local task = group.task
  if group.due then -- a claim gives it a position, and a slot of its lane, once it is due
    redis.call('ZADD', K.queue(task.queue), group.due, group.ids[1])
    wake(task.queue)
  elseif task.lane then
    join_queue(group.ids[1], task, now)
  else
    alone = enqueue(group.ids, task) and #groups == 1
  end
end
for _, group in ipairs(groups) do
  for i, reply in ipairs(group.replies) do
    reply[3] = group.due and -1 or alone and i - 1 or ahead_of(group.ids[i], group.task)
  end
end
return #replies == 1 and replies[1].err and replies[1] or replies
