-- Remove a member from a presence channel, on behalf of one gateway; the member's last gateway announces it.
-- Return 1 if the user is no member any more, 0 if nothing has changed for the others.
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
announce(topic_key, next_seq(), '-', 'pusher_internal:member_removed', '{"user_id":"' .. user_id .. '"}')
queue_webhook('{"name":"member_removed","channel":"' .. channel .. '","user_id":"' .. user_id .. '"}')
return 1
