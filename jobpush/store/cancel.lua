-- Mark a task as cancelled, and say so: REVOKED at once where it has not started, "cancelling" where it runs.
-- KEYS: task, tasks, topic, stream, floor
-- ARGV: task id (escaped), at, ttl of a final snapshot, history size, history ttl
-- Returns the state after it, or nil for a task that is not known.
local stored = redis.call('HMGET', KEYS[1], 'seq', 'state', 'rank', 'at', 'tail', 'cancel')
if not stored[1] then return nil end
local seq, state, rank, at = tonumber(stored[1]), stored[2], tonumber(stored[3]), stored[4]
if rank == TERMINAL then return state end
local runs = state == 'STARTED' or state == 'PROGRESS'
if runs and stored[6] then return state end

redis.call('HSET', KEYS[1], 'cancel', ARGV[2])
if not runs then
  state, rank, at = 'REVOKED', TERMINAL, ARGV[2]
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
seq = seq + 1
local members = task_members(seq, state, at, stored[5], runs)
local id = announce(KEYS[3], KEYS[4], KEYS[5], task_header(ARGV[1], seq, 1), members, ARGV[4], ARGV[5])
redis.call('HSET', KEYS[1], 'seq', seq, 'state', state, 'rank', rank, 'at', at, 'id', id)
return state
