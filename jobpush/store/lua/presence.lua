-- Functions of the presence scripts. A gateway's statements are absolute, so repeating one changes nothing. The script
-- decides who is first and last over all gateways, and publishes it in the same step. Each statement is also a claim in
-- a set of the gateway, so that it can be retracted when the gateway dies: "<topic>", or "<topic> <user id>" of a member.

-- Redis' own time, on which all gateways agree.
local TIME = redis.call('TIME')
local MICROSECONDS = TIME[1] * 1000000 + TIME[2]
local SECONDS = MICROSECONDS / 1000000
-- Events for webhooks that wait for a worker; without one they must not fill Redis.
local WEBHOOKS_KEPT = 100000

-- Return whether a lease in a sorted set has not ended.
local function has_lease(leases, holder)
  local lease_end = redis.call('ZSCORE', leases, holder)
  return lease_end and tonumber(lease_end) > SECONDS
end

-- Return whether the gateway's statements in this bucket are being retracted: then none is added.
local function is_dead()
  return redis.call('EXISTS', tombstone_key) == 1
end

-- Return JSON text as the inside of a JSON string. It has no control characters, so two characters need an escape.
local function escaped(json)
  return (string.gsub(json, '["\\]', '\\%0'))
end

-- Publish an event that is in no history; data is JSON text.
local function announce(channel, seq, excluded, event, data)
  redis.call(PUBLISH, channel, '- - ' .. seq .. ' 1 ' .. excluded .. '\n"event":"' .. event .. '","data":"'
    .. escaped(data) .. '"')
end

local function queue_webhook(event)
  if not has_webhooks then return end
  redis.call('XADD', webhooks_key, 'MAXLEN', '~', WEBHOOKS_KEPT, '*', 'e', event,
    'ms', string.format('%.0f', math.floor(MICROSECONDS / 1000)))
end

-- Forget the floor of a history without events, history_left seconds from now: nothing stays of a channel that never
-- had an event, and until then a lost connection can resume without a gap.
local function forget_empty_history()
  local floor = try('GET', floor_key)
  if not floor or not string.find(floor, ' empty', 1, true) then return end
  if redis.call('TTL', floor_key) > history_left then redis.call('EXPIRE', floor_key, history_left) end
end

-- Set one gateway's number of connections, and list the name in an index while there are any.
-- Return the number over all gateways before and after.
local function set_connections(index_key, name)
  local before = 0
  for _, number in ipairs(try('HVALS', connections_key) or {}) do before = before + number_in(number) end
  local own = number_in(try('HGET', connections_key, gateway_id))
  if count == 0 then
    try('HDEL', connections_key, gateway_id)
    redis.call('SREM', claims_key, topic)
  elseif count ~= own then
    replace('HSET', connections_key, gateway_id, count)
    replace('SADD', claims_key, topic)
  end
  local total = before - own + count
  if before == 0 and total > 0 then replace('ZADD', index_key, 0, name) end
  if before > 0 and total == 0 then
    try('ZREM', index_key, name)
    forget_empty_history()
  end
  return before, total
end

-- Return the next number of a roster's announcements. It follows the time, so it grows even if Redis came back empty.
local function next_seq()
  local last = number_in(try('GET', members_seq_key))
  local seq = string.format('%.0f', math.max(last + 1, MICROSECONDS))
  redis.call('SET', members_seq_key, seq, 'EX', 86400)
  return seq
end

-- Return the gateways of a stored member, and its user_info; nil if it is none. The stored form is
-- "<gateway> <gateway>|<user_info>"; no gateway id contains a blank or a bar.
local function read_member()
  return string.match(try('HGET', members_key, user_id) or '', '^([^|]+)|(.+)$')
end
