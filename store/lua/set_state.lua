-- Keeps a value for a session, in the session's own hash, or for a principal. Expired values make room.
-- KEYS: 1 hash
-- ARGV: 1 field, 2 value behind its expiry in ms and a blank, 3 most values, 4 the session's principal, or empty,
--   5 ttl of a principal's hash, ms, 6 now, ms
-- Returns: kept | gone: the session has ended | full
-- Events: none
if ARGV[4] ~= '' and redis.call('HGET', KEYS[1], 'principal') ~= ARGV[4] then
  return 'gone'
end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  local count = 0
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 6) == 'state:' then
      local expiry = string.match(redis.call('HGET', KEYS[1], field), '^%d+')
      if tonumber(expiry) <= tonumber(ARGV[6]) then
        redis.call('HDEL', KEYS[1], field)
      else
        count = count + 1
      end
    end
  end
  if count >= tonumber(ARGV[3]) then
    return 'full'
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[4] == '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return 'kept'
