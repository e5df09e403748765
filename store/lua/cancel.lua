-- Cancels a task at once, whoever has it; the fence rises, so its worker's word no longer counts.
-- KEYS: 1 record
-- ARGV: 1 id, 2 principal ('' = an operator, any), 3 reason
-- Returns: 'missing' | 'cancelled' | 'ended'
-- Events: cancel
local id = ARGV[1]
local field = redis.call('HMGET', KEYS[1], 'principal', 'status', 'fence', 'worker')
if not field[1] or (ARGV[2] ~= '' and field[1] ~= ARGV[2]) then
  return 'missing'
end
if not may('cancel', field[2]) then
  return 'ended'
end
settle(id, moment_of(id, clock()), 'cancel', { 'fence', tonumber(field[3]) + 1, 'reason', ARGV[3] })
if field[4] and field[4] ~= '' then
  redis.call('PUBLISH', K.signal(field[4]), 'cancel ' .. id)
end
return 'cancelled'
