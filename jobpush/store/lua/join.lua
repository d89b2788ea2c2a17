-- Add a member to a presence channel, on behalf of one gateway; the member's first gateway announces it.
-- user_id is the inside of a JSON string, user_info JSON text.
-- Return 1 for a new member, 0 for a known one, -1 if the gateway's lease has ended, -2 if the channel is full.
if is_dead() then return -1 end
local holders, known_info = read_member()
if holders then
  if string.find(' ' .. holders .. ' ', ' ' .. gateway_id .. ' ', 1, true) then return 0 end
elseif max_members > 0 and (try('HLEN', members_key) or 0) >= max_members then
  return -2
end

replace('SADD', claims_key, topic .. ' ' .. user_id)
if holders then
  redis.call('HSET', members_key, user_id, holders .. ' ' .. gateway_id .. '|' .. known_info)
  return 0
end
replace('HSET', members_key, user_id, gateway_id .. '|' .. user_info)
if not is_quiet then
  announce(topic_key, next_seq(), 'pusher_internal:member_added',
    '{"user_id":"' .. user_id .. '","user_info":' .. user_info .. '}')
  queue_webhook('{"name":"member_added","channel":"' .. channel .. '","user_id":"' .. user_id .. '"}')
end
return 1
