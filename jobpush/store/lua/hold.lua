-- Begin the lease of a worker, or renew it.
-- Return 1 if the lease was held until now; 0 if it begins, has ended, or was lost: then repeat every claim.
local is_held = has_lease(workers_key, worker_id)
if is_held or begins then redis.call('ZADD', workers_key, string.format('%.6f', SECONDS + seconds), worker_id) end
return is_held and 1 or 0
