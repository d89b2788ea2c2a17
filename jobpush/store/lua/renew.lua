-- Begin the lease of a gateway, or renew it. known_epoch is the epoch of the last renewal; empty when the lease begins.
-- Return {1 or 0, epoch}. 0: the lease is lost, and the gateway's statements may be gone or retracted. If the epoch
-- differs too, Redis has lost data; otherwise the others took the gateway for dead. An error if the stored data has
-- another layout; a Redis without data gets this one.
if not redis.call('SET', layout_key, layout, 'NX') and redis.call('GET', layout_key) ~= layout then
  return redis.error_reply('LAYOUT the data in Redis has layout ' .. redis.call('GET', layout_key) .. ' and this version'
    .. ' of jobpush uses layout ' .. layout .. ': stop all processes of the other version, then start this one with'
    .. ' another JOBPUSH_PREFIX, or remove the old data')
end

-- An epoch ends when Redis is emptied or restarted: its data may be minutes old then.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
local lease_end = string.format('%.6f', SECONDS + seconds)
local epoch = redis.call('GET', epoch_key)
if not epoch or string.match(epoch, '^%x*') ~= run then
  epoch = string.format('%s-%.0f', run, MICROSECONDS)
  redis.call('SET', epoch_key, epoch)
  -- The gateways of the last epoch get time to renew before their statements are retracted.
  for _, gateway in ipairs(redis.call('ZRANGE', gateways_key, 0, -1)) do
    redis.call('ZADD', gateways_key, lease_end, gateway)
  end
end

local is_held = known_epoch == '' or (epoch == known_epoch and has_lease(gateways_key, gateway_id))
-- If it is not held, the gateway continues under another id. The lease lets its statements in between be retracted like
-- those of a dead gateway.
redis.call('ZADD', gateways_key, lease_end, gateway_id)
return {is_held and 1 or 0, epoch}
