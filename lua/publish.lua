--[[
publish: store a report, unless its writer has been fenced.

The race it stops: a writer that was paused between its last look at the lease and this write.
Checks and write are one step, so there is no such moment. A retry after a lost reply is told
DUPLICATE, and a writer whose state is behind what was published already is told STALE_DATA.

KEYS (one hash tag, one slot)
  1 report   report:S               STRING  JSON, expires
  2 heavy    report:S:heavy         STRING  JSON, expires; only beside a report that was split
  3 lease    report:writer:S        STRING  node|incarnation|token, expires
  4 counter  report:writer:token:S  STRING  newest token granted, never expires
  5 meta     report:meta:S          HASH    token, seq, watermark, updated_at; never expires
ARGV
  1 lease_value    as acquire returned it
  2 token          integer up to 2^53 - 1000, the one inside lease_value
  3 seq            integer, rises with each report; goes on from acquire's last seq
  4 watermark      integer below 2^53, never falls
  5 updated_at     ms since the epoch, as inside the payload; rises, writers see to it
  6 ttl_ms         life of report and heavy, ms, anew with each accepted write
  7 payload        bytes, opaque here
  8 heavy_payload  bytes, opaque here; '' deletes heavy
  9 channel        where an accepted write is announced
 10 announcement   {"symbol","token","seq"}: small, whoever wants the report reads it
Returns code
   1 OK
   0 DUPLICATE   this (token, seq) or a later one is stored: for a retry, success
  -1 FENCED      a newer token was granted: drop the symbol
  -2 NOT_OWNER   the lease is another's, or nobody's: drop the symbol
  -3 STALE_DATA  a report of later records is stored: catch up first
]]
local report = KEYS[1]
local heavy = KEYS[2]
local lease = KEYS[3]
local counter = KEYS[4]
local meta = KEYS[5]
local lease_value = ARGV[1]
local token = tonumber(ARGV[2])
local seq = tonumber(ARGV[3])
local watermark = tonumber(ARGV[4])
local updated_at = ARGV[5]
local ttl_ms = ARGV[6]
local payload = ARGV[7]
local heavy_payload = ARGV[8]
local channel = ARGV[9]
local announcement = ARGV[10]

local OK, DUPLICATE, FENCED, NOT_OWNER, STALE_DATA = 1, 0, -1, -2, -3

local last = redis.call('HMGET', meta, 'token', 'seq', 'watermark')
local last_token = tonumber(last[1] or '0')
local granted = tonumber(redis.call('GET', counter) or '0')

if granted > token or last_token > token then
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

-- First what Redis can refuse for want of memory: it then refuses all, and nothing is changed.
redis.call('SET', report, payload, 'PX', ttl_ms)
if heavy_payload == '' then
  redis.call('UNLINK', heavy)
else
  redis.call('SET', heavy, heavy_payload, 'PX', ttl_ms)
end
redis.call(
  'HSET', meta, 'token', ARGV[2], 'seq', ARGV[3], 'watermark', ARGV[4], 'updated_at', updated_at
)
if granted < token then
  redis.call('SET', counter, ARGV[2])
end
redis.call('PUBLISH', channel, announcement)
return OK
