-- Add a member to a presence channel, on behalf of one gateway; the member's first gateway announces it.
-- user_id is the inside of a JSON string, user_info JSON text. excluded: a socket that does not receive it, or "-".
-- Return 1 for a new member, 0 for a known one, -1 if the gateway's lease has ended, -2 if the channel is full.
if is_dead() then return -1 end
local stored = redis.call('HGET', members_key, user_id)
local holders, known_info
if stored then
  holders, known_info = read_holders(stored)
  if string.find(' ' .. holders .. ' ', ' ' .. gateway_id .. ' ', 1, true) then return 0 end
elseif max_members > 0 and redis.call('HLEN', members_key) >= max_members then
  return -2
end

redis.call('SADD', claims_key, topic .. ' ' .. user_id)
if stored then
  redis.call('HSET', members_key, user_id, holders .. ' ' .. gateway_id .. '|' .. known_info)
  return 0
end
redis.call('HSET', members_key, user_id, gateway_id .. '|' .. user_info)
if not is_quiet then
  announce(topic_key, next_seq(), excluded, 'pusher_internal:member_added',
    '{"user_id":"' .. user_id .. '","user_info":' .. user_info .. '}')
  queue_webhook('{"name":"member_added","channel":"' .. channel .. '","user_id":"' .. user_id .. '"}')
end
return 1
