-- The members of a presence channel.

-- Return the next number of a roster's announcements. It follows the time, so it grows even if Redis returns empty.
local function next_seq()
  local last = number_in(try('GET', members_seq_key))
  local seq = string.format('%.0f', math.max(last + 1, MICROSECONDS))
  redis.call('SET', members_seq_key, seq, 'EX', 86400)
  return seq
end

-- Return the gateways of a stored member, and its user_info; nil if it is not a member. The stored form is
-- "<gateway> <gateway>|<user_info>"; no gateway id contains a blank or a bar.
local function read_member()
  return string.match(try('HGET', members_key, user_id) or '', '^([^|]+)|(.+)$')
end

-- The body of leave.lua.
local function leave()
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
  announce(topic_key, next_seq(), 'pusher_internal:member_removed', '{"user_id":"' .. user_id .. '"}')
  queue_webhook('{"name":"member_removed","channel":"' .. channel .. '","user_id":"' .. user_id .. '"}')
  return 1
end
