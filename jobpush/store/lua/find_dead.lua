-- Elect the caller to be the reaper for so many milliseconds, unless another one is.
-- Return the ids of the gateways whose lease has ended; none to a caller that is not the reaper.
local reaper = redis.call('GET', reaper_key)
if reaper and reaper ~= gateway_id then return {} end
redis.call('SET', reaper_key, gateway_id, 'PX', milliseconds)
return redis.call('ZRANGEBYSCORE', gateways_key, '-inf', string.format('%.6f', SECONDS))
