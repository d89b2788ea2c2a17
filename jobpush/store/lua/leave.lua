-- Say that a user is no longer a member of a presence channel, by one gateway; his last gateway announces it.
-- KEYS: members, claims, topic, seq of the roster, webhooks ("": none)
-- ARGV: gateway id, topic, channel, user id (inside of a JSON string)
-- Returns 1 if he is no member any more, 0 if nothing has changed for the others.
local gateway, topic, channel, user = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
redis.call('SREM', KEYS[2], topic .. ' ' .. user)
local stored = redis.call('HGET', KEYS[1], user)
if not stored then return 0 end

local held_by, info = read_member(stored)
local others = {}
for other in string.gmatch(held_by, '%S+') do
  if other ~= gateway then others[#others + 1] = other end
end
if #others > 0 then
  redis.call('HSET', KEYS[1], user, table.concat(others, ' ') .. '|' .. info)
  return 0
end
redis.call('HDEL', KEYS[1], user)
tell(KEYS[3], next_seq(KEYS[4]), '-', 'pusher_internal:member_removed', '{"user_id":"' .. user .. '"}')
tell_webhooks(KEYS[5], '{"name":"member_removed","channel":"' .. channel .. '","user_id":"' .. user .. '"}')
return 1
