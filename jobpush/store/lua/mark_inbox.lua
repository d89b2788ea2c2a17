-- Mark items of an inbox as seen or read, and publish that the inbox has changed. An item that was read stays read.
-- Without ids: the next `limit` items after the id `after`.
-- Return the number of changed items, and the id of the last examined item.
local is_listed = #ids == 0
if is_listed then
  for index, entry in ipairs(try('XRANGE', inbox_key, after, '+', 'COUNT', limit) or {}) do ids[index] = entry[1] end
end
local changed = 0
for _, id in ipairs(ids) do
  local before = try('HGET', inbox_states_key, id)
  local is_known = is_listed or string.match(id, '^%d+-%d+$') and #(try('XRANGE', inbox_key, id, id) or {}) > 0
  if is_known and before ~= state and before ~= 'read' then
    replace('HSET', inbox_states_key, id, state)
    changed = changed + 1
  end
end
redis.call('EXPIRE', inbox_states_key, ttl)
if changed > 0 then publish_message('- - 0 1 -', '"event":"jobpush:inbox","data":"{\\"state\\":\\"' .. state .. '\\"}"') end
return {changed, ids[#ids] or ''}
