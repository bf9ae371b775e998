--[[
acquire: take the right to write, under a token above every token granted before.

The race it stops: two processes that both believe the lease is free. One step looks and takes,
and the token it hands out is refused to nobody but outlives everybody: whoever held a lower one
is fenced from here on, paused or not. A thief fails if the lease changed since it looked.

KEYS (one hash tag, one slot)
  1 lease    report:writer:S        STRING  node|incarnation|token, expires
  2 counter  report:writer:token:S  STRING  newest token granted, never expires
  3 meta     report:meta:S          HASH    last accepted write, never expires
ARGV
  1 node            text without '|'
  2 incarnation     text without '|', another at each start of the process
  3 ttl_ms          life of the lease, ms
  4 floor           highest token the caller has ever seen, 0 for none
  5 steal_below_ms  take another's lease if it has less than this left, ms; 0 never
  6 expected        the other's lease value as the caller saw it; '' never steals
Returns {code, token, lease value, lease's ms left, last seq, last updated_at}
  0 HELD        another's; token is the newest known
  1 GRANTED     was free
  2 HELD_BY_ME  was mine already (the reply of a grant was lost); extended, same token
  3 STOLEN      was another's
  error TOKENLIMIT: the next token would pass 2^53 - 1000, where Lua's numbers end
]]
local lease = KEYS[1]
local counter = KEYS[2]
local meta = KEYS[3]
local node = ARGV[1]
local incarnation = ARGV[2]
local ttl_ms = ARGV[3]
local floor = tonumber(ARGV[4])
local steal_below_ms = tonumber(ARGV[5])
local expected = ARGV[6]

local HELD, GRANTED, HELD_BY_ME, STOLEN = 0, 1, 2, 3
local TOKEN_LIMIT = 2 ^ 53 - 1000

local last = redis.call('HMGET', meta, 'token', 'seq', 'updated_at', 'tick_token')
local last_seq, last_updated_at = tonumber(last[2] or '0'), tonumber(last[3] or '0')
-- Any one of these may have been lost (eviction, a restart, a replica that lagged).
local newest = math.max(
  tonumber(redis.call('GET', counter) or '0'),
  tonumber(last[1] or '0'),
  tonumber(last[4] or '0')
)

local code = GRANTED
local held = redis.call('GET', lease)
if held then
  local pttl = redis.call('PTTL', lease)
  local mine = node .. '|' .. incarnation .. '|'
  if string.sub(held, 1, #mine) == mine then
    local token = tonumber(string.sub(held, #mine + 1)) or 0
    if token >= newest and token >= floor then
      redis.call('PEXPIRE', lease, ttl_ms)
      return {HELD_BY_ME, token, held, tonumber(ttl_ms), last_seq, last_updated_at}
    end
    -- My own lease, back from an older copy of the data: its token is spent, take another.
  elseif held == expected and pttl < steal_below_ms then
    code = STOLEN
  else
    return {HELD, newest, held, pttl, last_seq, last_updated_at}
  end
end

-- Redis' clock is the floor that is left when all the data is lost.
local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local token = math.max(newest + 1, floor + 1, now_ms)
if token > TOKEN_LIMIT then
  return redis.error_reply(string.format(
    'TOKENLIMIT %s: the next token would be %.0f, the highest is %.0f', lease, token, TOKEN_LIMIT
  ))
end

local token_text = string.format('%.0f', token)
local value = node .. '|' .. incarnation .. '|' .. token_text
redis.call('SET', counter, token_text)
redis.call('SET', lease, value, 'PX', ttl_ms)
return {code, token, value, tonumber(ttl_ms), last_seq, last_updated_at}
