-- Say that a user is a member of a presence channel, by one gateway; his first gateway announces him.
-- KEYS: members, claims, topic, seq of the roster, webhooks ("": none), gateways
-- ARGV: gateway id, topic, channel, user id (inside of a JSON string), user_info (JSON text), quiet (1: tell nobody),
--       socket that is not to hear of it or "-", members that the channel may have (0: any number)
-- Returns 1 if he was no member before, 0 if he was, -1 if the gateway's lease has ended, -2 if the channel is full.
local gateway, topic, channel, user, info = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if not has_lease(KEYS[6], gateway) then return -1 end
local stored = redis.call('HGET', KEYS[1], user)
local held_by, known_info
if stored then
  held_by, known_info = read_member(stored)
  if string.find(' ' .. held_by .. ' ', ' ' .. gateway .. ' ', 1, true) then return 0 end
end

local limit = tonumber(ARGV[8])
if not stored and limit > 0 and redis.call('HLEN', KEYS[1]) >= limit then return -2 end

redis.call('SADD', KEYS[2], topic .. ' ' .. user)
if stored then
  redis.call('HSET', KEYS[1], user, held_by .. ' ' .. gateway .. '|' .. known_info)
  return 0
end
redis.call('HSET', KEYS[1], user, gateway .. '|' .. info)
if ARGV[6] ~= '1' then
  tell(KEYS[3], next_seq(KEYS[4]), ARGV[7], 'pusher_internal:member_added',
    '{"user_id":"' .. user .. '","user_info":' .. info .. '}')
  tell_webhooks(KEYS[5], '{"name":"member_added","channel":"' .. channel .. '","user_id":"' .. user .. '"}')
end
return 1
