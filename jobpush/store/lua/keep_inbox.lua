-- Append an item to the inbox of a user, and publish that the inbox has changed. Too old and too many items are dropped.
-- Return the id of the item.
local id = replace('XADD', inbox_key, '*', 'd', item)
local now = redis.call('TIME')
local oldest, excess = (now[1] - ttl) * 1000, redis.call('XLEN', inbox_key) - max_items
for _, entry in ipairs(redis.call('XRANGE', inbox_key, '-', '+', 'COUNT', 100)) do
  if excess <= 0 and tonumber(string.match(entry[1], '^%d+')) >= oldest then break end
  redis.call('XDEL', inbox_key, entry[1])
  try('HDEL', inbox_states_key, entry[1])
  excess = excess - 1
end
if try('HEXISTS', inbox_states_key, id) == nil then redis.call('DEL', inbox_states_key) end
redis.call('EXPIRE', inbox_key, ttl)
redis.call('EXPIRE', inbox_states_key, ttl)
publish_message('- - 0 1 -', '"event":"jobpush:inbox","data":"{\\"id\\":\\"' .. id .. '\\"}"')
return id
