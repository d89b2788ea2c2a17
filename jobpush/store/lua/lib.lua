-- Functions shared by all scripts. scripts.py puts the generated constants and the script's named keys and arguments in
-- front of this file, so the functions here use the keys of the script that calls them.
-- A message is "<place> <task id or -> <seq> <pinned> <excluded socket or ->\n<members of the frame>". The place is the
-- stream id in the history; "-" for none, where a message about a task is for the task's own channel only; "*" for none,
-- where it is for the user's channels too.

-- Other programs may write to Redis too. A value of theirs under a key of jobpush counts as missing and is replaced by
-- the next write. It must not affect other keys.

-- Run a command. Return its reply, or nil if its key has a value of another type.
local function try(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then return nil end
  return redis.call(command, key, ...)  -- raises the error
end

-- Run a command that writes, and replace a value of another type.
local function replace(command, key, ...)
  local reply = try(command, key, ...)
  if reply ~= nil then return reply end
  redis.call('DEL', key)
  return redis.call(command, key, ...)
end

-- Return the number in a stored text; 0 if it is not a number.
local function number_in(text)
  return tonumber(text or 0) or 0
end

-- Return some fields of a hash as a table; missing ones are false.
local function read_fields(key, names)
  local fields, values = {}, try('HMGET', key, unpack(names)) or {}
  for index = 1, #names do fields[names[index]] = values[index] or false end
  return fields
end

local function publish_message(header, members)
  redis.call(PUBLISH, topic_key, header .. '\n' .. members)
end

-- Let a key expire no earlier than in this many seconds.
local function keep(key, seconds)
  if redis.call('TTL', key) < tonumber(seconds) then redis.call('EXPIRE', key, seconds) end
end
