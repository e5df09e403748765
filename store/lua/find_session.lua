-- Finds a session, whose idle time starts again; another principal's session is not touched.
-- KEYS: 1 session
-- ARGV: 1 id, 2 principal, 3 idle ms, 4 when it ends if idle, ms
-- Returns: false, also for another principal's session | {revision, client}
-- Events: none
local found = redis.call('HMGET', KEYS[1], 'principal', 'version', 'client')
if found[1] ~= ARGV[2] then
  return false
end
for _, key in ipairs({ KEYS[1], K.followed(ARGV[1]), K.calls(ARGV[1]), K.sessions }) do
  redis.call('PEXPIRE', key, ARGV[3])
end
redis.call('ZADD', K.sessions, 'XX', ARGV[4], ARGV[1])
return { found[2], found[3] }
