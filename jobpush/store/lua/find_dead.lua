-- Elect the caller as the reaper for this many milliseconds, unless there is another one.
-- Return the ids of the gateways with an expired lease; none if the caller is not the reaper.
local reaper = redis.call('GET', reaper_key)
if reaper and reaper ~= gateway_id then return {} end
redis.call('SET', reaper_key, gateway_id, 'PX', milliseconds)
return redis.call('ZRANGEBYSCORE', gateways_key, '-inf', string.format('%.6f', SECONDS))
