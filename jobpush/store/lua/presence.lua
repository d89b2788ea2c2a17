-- Functions of the presence scripts. A gateway's statements are absolute, so repeating one changes nothing. The script
-- detects the first arrival and the last departure over all gateways, and publishes them in the same step. Each
-- statement is also a claim in a set of the gateway, so that it can be retracted when the gateway dies: "<topic>", or
-- "<topic> <user id>" of a member.

-- Redis' own time, on which all gateways agree.
local TIME = redis.call('TIME')
local MICROSECONDS = TIME[1] * 1000000 + TIME[2]
local SECONDS = MICROSECONDS / 1000000
-- Events for webhooks that wait for a worker; without one they must not fill Redis.
local WEBHOOKS_KEPT = 100000

-- Return whether a lease in a sorted set is valid.
local function has_lease(leases, holder)
  local lease_end = redis.call('ZSCORE', leases, holder)
  return lease_end and tonumber(lease_end) > SECONDS
end

-- Return whether the gateway's statements in this bucket are being retracted: then none is added.
local function is_dead()
  return redis.call('EXISTS', tombstone_key) == 1
end

-- Publish an event that is in no history; data is JSON text without control characters, so two characters need an
-- escape.
local function announce(channel, seq, event, data)
  local escaped = string.gsub(data, '["\\]', '\\%0')
  redis.call(PUBLISH, channel, '- - ' .. seq .. ' 1 -\n"event":"' .. event .. '","data":"' .. escaped .. '"')
end

local function queue_webhook(event)
  if not has_webhooks then return end
  redis.call('XADD', webhooks_key, 'MAXLEN', '~', WEBHOOKS_KEPT, '*', 'e', event,
    'ms', string.format('%.0f', math.floor(MICROSECONDS / 1000)))
end
