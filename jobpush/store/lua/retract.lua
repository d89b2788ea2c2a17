-- Retract claims of a gateway in one bucket. keeps_last: except those that no other gateway makes, since the
-- connections may move to another gateway. Return the number of kept claims.
count, subscribed, is_quiet = 0, 0, false
local kept = 0
for _, claim in ipairs(claims) do
  topic, user_id = string.match(claim, '^(%S+) ?(.*)$')
  local names = base .. topic
  topic_key = base .. database .. ':' .. topic
  floor_key, connections_key, subscribed_key = names .. ':floor', names .. ':connections', names .. ':subscribed'
  members_key, members_seq_key, published_count_key = names .. ':members', names .. ':members-seq', names .. ':published-count'
  local kind, name = string.match(topic, '^(%l+):(.*)$')
  local holders
  if user_id ~= '' then
    holders = read_member()
    channel = name
  else
    holders = table.concat(try('HKEYS', connections_key) or {}, ' ')
  end
  if keeps_last and holders == gateway_id then
    kept = kept + 1
  elseif user_id ~= '' then
    leave()
  elseif kind == 'user' then
    user_id, watch_key, history_left = name, base .. database .. ':watch:' .. name, history_ttl
    online()
  else
    local is_presence = string.find(name, '^presence%-')
    local is_private = is_presence or string.find(name, '^private%-')
    channel, history_left = name, is_private and history_ttl or public_history_left
    is_counted = counts_subscriptions and not is_presence
    redis.call('DEL', published_count_key)  -- publish the count now: no caller repeats the call
    occupy()
  end
end
return kept
