-- Renews the leases of one worker; by the reply it also learns of cancels whose message it missed.
-- KEYS: none (the queue is the record's)
-- ARGV: 1 lease ms, then id, fence, id, fence...
-- Returns: {id...} of the leases that are lost
-- Events: none
local now = clock()
local lease, lost = tonumber(ARGV[1]), {}
local has_stock_workers = redis.call('HGET', K.epoch, 'stock')
for i = 2, #ARGV, 2 do
  local id, fence = ARGV[i], ARGV[i + 1]
  local task = load(id, 'queue')
  if owns(task, fence, 'progress') then
    -- The first write takes no memory, so that a full Redis refuses none.
    if not has_stock_workers then
      redis.call('PERSIST', K.record(id))
    elseif redis.call('PEXPIRE', K.in_progress(id), lease) == 0 then
      redis.call('PERSIST', K.record(id))
      redis.call('SET', K.in_progress(id), fence, 'PX', lease)
    end
    redis.call('ZADD', K.queue(task.queue), now + lease, id)
  else
    lost[#lost + 1] = id
  end
end
return lost
