-- Functions of the presence scripts. A gateway's statements are absolute, so repeating one changes nothing. The script
-- detects the first arrival and the last departure over all gateways, and publishes them in the same step. Each
-- statement is also a claim in a set of the gateway, so that it can be retracted when the gateway dies: "<topic>", or
-- "<topic> <user id>" of a member.

-- Redis' own time, on which all gateways agree.
local TIME = redis.call('TIME')
local MICROSECONDS = TIME[1] * 1000000 + TIME[2]
local SECONDS = MICROSECONDS / 1000000
-- Events for webhooks that wait for a worker; without one they must not fill Redis.
local WEBHOOKS_KEPT = 100000

-- Return whether a lease in a sorted set is valid.
local function has_lease(leases, holder)
  local lease_end = redis.call('ZSCORE', leases, holder)
  return lease_end and tonumber(lease_end) > SECONDS
end

-- Return whether the gateway's statements in this bucket are being retracted: then none is added.
local function is_dead()
  return redis.call('EXISTS', tombstone_key) == 1
end

-- Publish an event that is in no history; data is JSON text without control characters, so two characters need an
-- escape.
local function announce(channel, seq, event, data)
  local escaped = string.gsub(data, '["\\]', '\\%0')
  redis.call(PUBLISH, channel, '- - ' .. seq .. ' 1 -\n"event":"' .. event .. '","data":"' .. escaped .. '"')
end

local function queue_webhook(event)
  if not has_webhooks then return end
  redis.call('XADD', webhooks_key, 'MAXLEN', '~', WEBHOOKS_KEPT, '*', 'e', event,
    'ms', string.format('%.0f', math.floor(MICROSECONDS / 1000)))
end

-- Let the floor of a history without events expire in history_left seconds: until then a lost connection can resume
-- without a gap, and afterwards a channel without events leaves no key.
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
    try('SREM', claims_key, topic)
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

-- Return the next number of a roster's announcements. It follows the time, so it grows even if Redis returns empty.
local function next_seq()
  local last = number_in(try('GET', members_seq_key))
  local seq = string.format('%.0f', math.max(last + 1, MICROSECONDS))
  redis.call('SET', members_seq_key, seq, 'EX', 86400)
  return seq
end

-- Return the gateways of a stored member, and its user_info; nil if it is not a member. The stored form is
-- "<gateway> <gateway>|<user_info>"; no gateway id contains a blank or a bar.
local function read_member()
  return string.match(try('HGET', members_key, user_id) or '', '^([^|]+)|(.+)$')
end

-- Pusher Channels, "Subscription counting": each change up to 100 subscribers, then every five seconds.
local ALWAYS_PUBLISHED, INTERVAL = 100, 5000

local function publish_count(total)
  if total == 0 then
    redis.call('DEL', published_count_key)  -- the next subscriber has received no count
    return 0
  end
  local published = try('GET', published_count_key)
  if published == tostring(total) then return 0 end
  if published and total > ALWAYS_PUBLISHED then return math.max(1, redis.call('PTTL', published_count_key)) end
  redis.call('SET', published_count_key, total, 'PX', INTERVAL)
  announce(topic_key, 0, 'pusher_internal:subscription_count', '{"subscription_count":' .. total .. '}')
  queue_webhook('{"name":"subscription_count","channel":"' .. channel .. '","subscription_count":' .. total .. '}')
  return 0
end

-- The body of occupy.lua.
local function occupy()
  local before, total = set_connections(channels_key, channel)
  if is_quiet then return {total, 0} end
  local event = before == 0 and total > 0 and 'channel_occupied' or before > 0 and total == 0 and 'channel_vacated'
  if event then queue_webhook('{"name":"' .. event .. '","channel":"' .. channel .. '"}') end
  return {total, is_counted and publish_count(total) or 0}
end

-- The body of online.lua.
local function online()
  local before, total = set_connections(users_key, user_id)
  if count > 0 and subscribed > 0 then
    replace('HSET', subscribed_key, gateway_id, subscribed)
  else
    try('HDEL', subscribed_key, gateway_id)
  end
  local state = before == 0 and total > 0 and 'online' or before > 0 and total == 0 and 'offline'
  if state and not is_quiet then
    announce(watch_key, 0, 'pusher_internal:watchlist_events',
      '{"events":[{"name":"' .. state .. '","user_ids":["' .. user_id .. '"]}]}')
    queue_webhook('{"name":"user_' .. state .. '","user_id":"' .. user_id .. '"}')
  end
  return {total, 0}
end

-- The body of leave.lua.
local function leave()
  try('SREM', claims_key, topic .. ' ' .. user_id)
  local holders, info = read_member()
  if not holders then return 0 end

  local others = {}
  for other in string.gmatch(holders, '%S+') do
    if other ~= gateway_id then others[#others + 1] = other end
  end
  if #others > 0 then
    redis.call('HSET', members_key, user_id, table.concat(others, ' ') .. '|' .. info)
    return 0
  end
  redis.call('HDEL', members_key, user_id)
  announce(topic_key, next_seq(), 'pusher_internal:member_removed', '{"user_id":"' .. user_id .. '"}')
  queue_webhook('{"name":"member_removed","channel":"' .. channel .. '","user_id":"' .. user_id .. '"}')
  return 1
end
