-- How many connections a topic has.

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
  local before, own = 0, 0
  local numbers = try('HGETALL', connections_key) or {}
  for index = 1, #numbers, 2 do
    local number = number_in(numbers[index + 1])
    before = before + number
    if numbers[index] == gateway_id then own = number end
  end
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
