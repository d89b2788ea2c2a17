-- Say how many connections of one gateway are a user's.
-- KEYS: connections, claims, gateways, webhooks ("": none), users, topic of those who watch the user
-- ARGV: gateway id, topic, number, quiet (1: tell nobody), user id (escaped)
-- Returns {connections of all gateways, 0}, in the form of occupy.lua; or {-1, 0} if the gateway's lease has ended.
local gateway, topic, count, is_quiet, user = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5]

local function tell_change(state)
  if is_quiet then return end
  tell(KEYS[6], 0, '-', 'pusher_internal:watchlist_events',
    '{"events":[{"name":"' .. state .. '","user_ids":["' .. user .. '"]}]}')
  tell_webhooks(KEYS[4], '{"name":"user_' .. state .. '","user_id":"' .. user .. '"}')
end

if count > 0 and not has_lease(KEYS[3], gateway) then return {-1, 0} end
local before, total = set_connections(KEYS[1], KEYS[2], gateway, topic, count)
if before == 0 and total > 0 then
  redis.call('ZADD', KEYS[5], 0, user)
  tell_change('online')
elseif before > 0 and total == 0 then
  redis.call('ZREM', KEYS[5], user)
  tell_change('offline')
end
return {total, 0}
