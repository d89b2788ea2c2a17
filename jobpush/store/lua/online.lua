-- Set the number of one gateway's connections that belong to a user, and of those subscribed to the user's channel.
-- Return {connections of all gateways, 0}, as occupy.lua does; or {-1, 0} if the gateway's lease has ended.
if count > 0 and is_dead() then return {-1, 0} end
local before, total = set_connections(users_key, user_id)
if count > 0 and subscribed > 0 then
  replace('HSET', subscribed_key, gateway_id, subscribed)
else
  try('HDEL', subscribed_key, gateway_id)
end
local state = before == 0 and total > 0 and 'online' or before > 0 and total == 0 and 'offline'
if state and not is_quiet then
  announce(watch_key, 0, '-', 'pusher_internal:watchlist_events',
    '{"events":[{"name":"' .. state .. '","user_ids":["' .. user_id .. '"]}]}')
  queue_webhook('{"name":"user_' .. state .. '","user_id":"' .. user_id .. '"}')
end
return {total, 0}
