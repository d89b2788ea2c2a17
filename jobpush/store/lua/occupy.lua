-- Set the number of one gateway's connections that are subscribed to a channel.
-- Return {connections of all gateways, milliseconds}: unless the latter is 0, the count was published a moment ago; call
-- again after that time. Or {-1, 0} if the gateway's lease has ended.

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
  announce(topic_key, 0, '-', 'pusher_internal:subscription_count', '{"subscription_count":' .. total .. '}')
  queue_webhook('{"name":"subscription_count","channel":"' .. channel .. '","subscription_count":' .. total .. '}')
  return 0
end

if count > 0 and is_dead() then return {-1, 0} end
local before, total = set_connections(channels_key, channel)
if is_quiet then return {total, 0} end
local event = before == 0 and total > 0 and 'channel_occupied' or before > 0 and total == 0 and 'channel_vacated'
if event then queue_webhook('{"name":"' .. event .. '","channel":"' .. channel .. '"}') end
return {total, is_counted and publish_count(total) or 0}
