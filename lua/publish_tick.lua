--[[
publish_tick: store a symbol's last trade and top of book, by the same fence as its report.

The race it stops: publish's, for a key that is written more often. Ticks have a seq and a
watermark of their own beside the report's, for they overtake it.

KEYS (one hash tag, one slot)
  1 tick     tick:S                 STRING  JSON, expires
  2 lease    report:writer:S        STRING  node|incarnation|token, expires
  3 counter  report:writer:token:S  STRING  newest token granted, never expires
  4 meta     report:meta:S          HASH    tick_token, tick_seq, tick_watermark; never expires
ARGV
  1 lease_value   as acquire returned it
  2 token         integer up to 2^53 - 1000, the one inside lease_value
  3 seq           integer, rises with each tick of a token
  4 watermark     integer below 2^53, never falls
  5 ttl_ms        life of tick, ms, anew with each accepted write
  6 payload       bytes, opaque here
  7 channel       where an accepted write is announced
  8 announcement  {"symbol","token","seq"}: small, whoever wants the tick reads it
Returns code
   1 OK
   0 DUPLICATE   this (token, seq) or a later one is stored: for a retry, success
  -1 FENCED      a newer token was granted: drop the symbol
  -2 NOT_OWNER   the lease is another's, or nobody's: drop the symbol
  -3 STALE_DATA  a tick of later records is stored: catch up first
]]
local tick = KEYS[1]
local lease = KEYS[2]
local counter = KEYS[3]
local meta = KEYS[4]
local lease_value = ARGV[1]
local token = tonumber(ARGV[2])
local seq = tonumber(ARGV[3])
local watermark = tonumber(ARGV[4])
local ttl_ms = ARGV[5]
local payload = ARGV[6]
local channel = ARGV[7]
local announcement = ARGV[8]

local OK, DUPLICATE, FENCED, NOT_OWNER, STALE_DATA = 1, 0, -1, -2, -3

local last = redis.call('HMGET', meta, 'tick_token', 'tick_seq', 'tick_watermark', 'token')
local last_token = tonumber(last[1] or '0')
local granted = tonumber(redis.call('GET', counter) or '0')

if granted > token or last_token > token or tonumber(last[4] or '0') > token then
  return FENCED
end
if redis.call('GET', lease) ~= lease_value then
  return NOT_OWNER
end
if last_token == token and seq <= tonumber(last[2]) then
  return DUPLICATE
end
if watermark < tonumber(last[3] or '0') then
  return STALE_DATA
end

redis.call('SET', tick, payload, 'PX', ttl_ms)
redis.call('HSET', meta, 'tick_token', ARGV[2], 'tick_seq', ARGV[3], 'tick_watermark', ARGV[4])
if granted < token then
  redis.call('SET', counter, ARGV[2])
end
redis.call('PUBLISH', channel, announcement)
return OK
