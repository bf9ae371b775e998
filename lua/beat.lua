--[[
beat: say that a node lives, unless another process lives under its name.

The race it stops: two processes started with one node id, each renewing the other's heartbeat.
The first keeps the name; the second is told who has it.

KEYS (one hash tag, one slot)
  1 heartbeat  nt:node:ID  STRING  JSON with "incarnation", expires
  2 nodes      nt:nodes    ZSET    node ids by the time of their last beat, ms of Redis' clock
ARGV
  1 id           the node's
  2 incarnation  another at each start of the process
  3 payload      JSON with "incarnation"
  4 ttl_s        life of the heartbeat, s; 0 leaves: the heartbeat is deleted
  5 replaces     incarnation the caller knows to be dead; '' none
Returns {code, heartbeat that holds the name or '', {ids of the nodes alive}}
  0 DUPLICATE_ID  another incarnation holds the name
  1 ACCEPTED
]]
local heartbeat = KEYS[1]
local nodes = KEYS[2]
local id = ARGV[1]
local incarnation = ARGV[2]
local payload = ARGV[3]
local ttl_s = tonumber(ARGV[4])
local replaces = ARGV[5]

local DUPLICATE_ID, ACCEPTED = 0, 1

local code, shown = ACCEPTED, payload
local held = redis.call('GET', heartbeat)
if held then
  -- What can't be read is somebody's all the same; it expires if nobody renews it.
  local readable, other = pcall(cjson.decode, held)
  local holder = readable and type(other) == 'table' and other['incarnation'] or ''
  if holder ~= incarnation and (holder == '' or holder ~= replaces) then
    code, shown = DUPLICATE_ID, held
  end
end

local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
if code == ACCEPTED and ttl_s == 0 then
  redis.call('DEL', heartbeat)
  redis.call('ZREM', nodes, id)
  shown = ''
elseif code == ACCEPTED then
  redis.call('SET', heartbeat, payload, 'EX', ttl_s)
  redis.call('ZADD', nodes, string.format('%.0f', now_ms), id)
  redis.call('ZREMRANGEBYSCORE', nodes, '-inf', string.format('%.0f', now_ms - ttl_s * 1000))
end
return {code, shown, redis.call('ZRANGE', nodes, 0, -1)}
