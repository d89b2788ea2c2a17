-- Shared by the scripts of presence: put behind lib.lua, in front of each of them.
-- What a gateway says is absolute, so saying it twice changes nothing. Who is first and who is last is decided here,
-- in one step with what is told of it. Each thing said is also a claim, in a set of the gateway's own, so that it can
-- be taken back when the gateway dies: "<topic>", or "<topic> <user id>" for a member.

-- Redis's own time: gateways whose clocks differ agree on it.
local TIME = redis.call('TIME')
local MICROSECONDS = TIME[1] * 1000000 + TIME[2]
local SECONDS = MICROSECONDS / 1000000
-- Events for webhooks that wait for a worker; without one they must not fill Redis.
local WEBHOOKS_KEPT = 100000

-- A lease that has ended is never renewed, so its claims can be taken back by anybody and nothing is added to them.
local function has_lease(gateways, gateway)
  local lease_end = redis.call('ZSCORE', gateways, gateway)
  return lease_end and tonumber(lease_end) > SECONDS
end

-- JSON text as the inside of a JSON string: it holds no control characters, so two are left to be escaped.
local function escaped(json)
  return (string.gsub(json, '["\\]', '\\%0'))
end

-- Publish what is in no history; data is JSON text.
local function tell(topic, seq, excluded, event, data)
  redis.call('PUBLISH', topic, '- - ' .. seq .. ' 1 ' .. excluded .. '\n"event":"' .. event .. '","data":"'
    .. escaped(data) .. '"')
end

local function tell_webhooks(stream, event)
  if stream == '' then return end
  redis.call('XADD', stream, 'MAXLEN', '~', WEBHOOKS_KEPT, '*', 'e', event,
    'ms', string.format('%.0f', math.floor(MICROSECONDS / 1000)))
end

-- One gateway's number of connections becomes count. Returns the number of all gateways before it and after it.
local function set_connections(connections, claims, gateway, topic, count)
  local before = 0
  for _, number in ipairs(redis.call('HVALS', connections)) do before = before + number end
  local own = tonumber(redis.call('HGET', connections, gateway) or 0)
  if count == 0 then
    redis.call('HDEL', connections, gateway)
    redis.call('SREM', claims, topic)
  elseif count ~= own then
    redis.call('HSET', connections, gateway, count)
    redis.call('SADD', claims, topic)
  end
  return before, before - own + count
end

-- The next number of a roster's announcements. It grows even if Redis came back empty, for it follows the time.
local function next_seq(key)
  local seq = string.format('%.0f', math.max(tonumber(redis.call('GET', key) or 0) + 1, MICROSECONDS))
  redis.call('SET', key, seq, 'EX', 86400)
  return seq
end

-- What is stored of a member is "<gateway> <gateway>|<user_info>"; no gateway id holds a blank or a bar.
local function read_member(stored)
  return string.match(stored, '^([^|]*)|(.*)$')
end
