-- Say how many connections of one gateway a channel has.
-- KEYS: connections, claims, gateways, webhooks ("": none), channels, topic, last subscription_count told ("": none
--       is to be told)
-- ARGV: gateway id, topic, number, quiet (1: tell nobody), channel
-- Returns {connections of all gateways, milliseconds}: if the latter is not 0, the count was not told since too many
-- were told it a moment ago; say the same again after that time. Or {-1, 0} if the gateway's lease has ended.
local gateway, topic, count, is_quiet, channel = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5]
-- Pusher Channels, "Subscription counting": each change up to 100 subscribers, then every five seconds.
local ALWAYS_TOLD, INTERVAL = 100, 5000

local function tell_count(total)
  if total == 0 then
    redis.call('DEL', KEYS[7])  -- nobody is left to be told, and who comes next has been told nothing
    return 0
  end
  local told = redis.call('GET', KEYS[7])
  if told == tostring(total) then return 0 end
  if told and total > ALWAYS_TOLD then return math.max(1, redis.call('PTTL', KEYS[7])) end
  redis.call('SET', KEYS[7], total, 'PX', INTERVAL)
  tell(KEYS[6], 0, '-', 'pusher_internal:subscription_count', '{"subscription_count":' .. total .. '}')
  tell_webhooks(KEYS[4], '{"name":"subscription_count","channel":"' .. channel
    .. '","subscription_count":' .. total .. '}')
  return 0
end

if count > 0 and not has_lease(KEYS[3], gateway) then return {-1, 0} end
local before, total = set_connections(KEYS[1], KEYS[2], gateway, topic, count)
local event
if before == 0 and total > 0 then
  redis.call('ZADD', KEYS[5], 0, channel)
  event = 'channel_occupied'
elseif before > 0 and total == 0 then
  redis.call('ZREM', KEYS[5], channel)
  event = 'channel_vacated'
end
if is_quiet then return {total, 0} end
if event then tell_webhooks(KEYS[4], '{"name":"' .. event .. '","channel":"' .. channel .. '"}') end
return {total, KEYS[7] == '' and 0 or tell_count(total)}
