--[[
renew: keep a lease that is still exactly this one.

The race it stops: a holder that was slow and renews what another has taken meanwhile. A lease
that is gone is never made again here; that is acquire's, with a new token.

KEYS
  1 lease  report:writer:S  STRING  node|incarnation|token, expires
ARGV
  1 lease_value  as acquire returned it
  2 ttl_ms       life of the lease from now, ms
Returns code
  0 LOST     another's, or nobody's
  1 RENEWED
]]
local lease = KEYS[1]
local lease_value = ARGV[1]
local ttl_ms = ARGV[2]

local LOST, RENEWED = 0, 1

if redis.call('GET', lease) ~= lease_value then
  return LOST
end
redis.call('PEXPIRE', lease, ttl_ms)
return RENEWED
