-- Reads events of a history whose oldest ones may have been deleted: where an event stands in the list is then not its number.
-- KEYS: 1 history
-- ARGV: 1 number after which to begin, 2 how many, or -1 for all
-- Returns: {event, packed...}
-- Events: none
local eldest = redis.call('LINDEX', KEYS[1], 0)
if not eldest then
  return {}
end
local first = math.max(0, ARGV[1] + 1 - cmsgpack.unpack(eldest)[1])
return redis.call('LRANGE', KEYS[1], first, ARGV[2] == '-1' and -1 or first + ARGV[2] - 1)
