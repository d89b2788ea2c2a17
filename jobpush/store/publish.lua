-- Store the snapshot of a task and publish its event, in one step; or refuse what is older than what is stored.
-- KEYS: task, tasks, topic, stream, floor
-- ARGV: task id (escaped), state, rank, final (1: never conflated), run, attempt, at, last seq the publisher knows,
--       tail, ttl, tasks to list, history size, history ttl
-- Returns {status, seq, cancelled}: status 1 stored, 0 refused as stale, -1 refused because the task is cancelled.
local task_id, state, rank = ARGV[1], ARGV[2], tonumber(ARGV[3])
local run, attempt = tonumber(ARGV[5]), tonumber(ARGV[6])
local stored = redis.call('HMGET', KEYS[1], 'seq', 'rank', 'run', 'attempt', 'cancel', 'state')
local seq, cancelled = tonumber(stored[1] or 0), stored[5]

if stored[1] then
  local stored_rank, stored_run, stored_attempt = tonumber(stored[2]), tonumber(stored[3]), tonumber(stored[4])
  if run == 0 then run = stored_run end  -- published by somebody who does not stamp the time
  if run < stored_run then return {0, seq, 0} end
  if run > stored_run then
    cancelled = false  -- the same task id, published anew
    redis.call('HDEL', KEYS[1], 'cancel')
  elseif stored_rank == TERMINAL
      or attempt < stored_attempt
      or (attempt == stored_attempt and rank < stored_rank and stored[6] ~= 'LOST') then
    return {0, seq, cancelled and 1 or 0}
  end
end
if cancelled and state == 'STARTED' then return {-1, seq, 1} end

seq = math.max(seq, tonumber(ARGV[8])) + 1  -- the larger, for Redis may have come back empty
local members = task_members(seq, state, ARGV[7], ARGV[9], cancelled and rank < TERMINAL)
local id = announce(KEYS[3], KEYS[4], KEYS[5], task_header(task_id, seq, ARGV[4]), members, ARGV[12], ARGV[13])
redis.call('HSET', KEYS[1], 'seq', seq, 'state', state, 'rank', rank, 'run', run, 'attempt', attempt,
  'at', ARGV[7], 'tail', ARGV[9], 'id', id)
redis.call('EXPIRE', KEYS[1], ARGV[10])
redis.call('ZADD', KEYS[2], run, task_id)
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[11])
if redis.call('TTL', KEYS[2]) < tonumber(ARGV[10]) then redis.call('EXPIRE', KEYS[2], ARGV[10]) end
return {1, seq, cancelled and 1 or 0}
