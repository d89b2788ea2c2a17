-- Publish an event that is not a task's and append it to the history. A cache_ttl of 0: not a cache channel.
-- Return {id, connections as a flat list of gateway id and number}.
local id = append(header, members)
if cache_ttl ~= '0' then redis.call('SET', cache_key, id .. ' ' .. header .. '\n' .. members, 'EX', cache_ttl) end
return {id, try('HGETALL', connections_key) or {}}
