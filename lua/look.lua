--[[
look: who writes a symbol, and how far they have got. Changes nothing.

The race it stops: a lease of one moment beside a watermark of another. Whoever decides by what
it sees names the lease in acquire's `expected`, and fails if that has changed.

KEYS (one hash tag, one slot)
  1 lease  report:writer:S  STRING  node|incarnation|token, expires
  2 meta   report:meta:S    HASH    last accepted write, never expires
ARGV
  none
Returns {lease value or '', lease's ms left or 0, token, watermark}
]]
local lease = KEYS[1]
local meta = KEYS[2]

local held = redis.call('GET', lease)
local last = redis.call('HMGET', meta, 'token', 'watermark')
return {
  held or '',
  held and redis.call('PTTL', lease) or 0,
  tonumber(last[1] or '0'),
  tonumber(last[2] or '0'),
}
