-- Cancels a task at once, whoever has it; the fence rises, so its worker's word no longer counts.
-- KEYS: 1 record
-- ARGV: 1 id, 2 principal ('' = an operator, any), 3 reason
-- Returns: 'missing' | 'cancelled' | 'ended'
-- Events: cancel
local id = ARGV[1]
local was = load(id, 'worker', unpack(ENDING))
if not was.principal or (ARGV[2] ~= '' and was.principal ~= ARGV[2]) then
  return 'missing'
end
if not may('cancel', was.status) then
  return 'ended'
end
settle(id, was, moment_of(was, clock()), 'cancel', { 'fence', next_fence(was.fence), 'reason', ARGV[3] })
clear_away()
if was.worker and was.worker ~= '' then
  redis.call('PUBLISH', K.signal(was.worker), 'cancel ' .. id)
end
return 'cancelled'
