--[[
release: give a lease back, if it is still exactly this one.

The race it stops: a holder that stops late and deletes its successor's lease. Counter and meta
stay, so the successor's token and seq go on from here.

KEYS
  1 lease  report:writer:S  STRING  node|incarnation|token, expires
ARGV
  1 lease_value  as acquire returned it
Returns code
  0 NOT_HELD  another's, or nobody's
  1 RELEASED
]]
local lease = KEYS[1]
local lease_value = ARGV[1]

local NOT_HELD, RELEASED = 0, 1

if redis.call('GET', lease) ~= lease_value then
  return NOT_HELD
end
redis.call('DEL', lease)
return RELEASED
