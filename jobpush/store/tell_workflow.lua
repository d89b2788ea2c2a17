-- Have a workflow tell what it has left to tell, or what has come true without a word of its members.
-- ARGV: task id of the workflow (escaped), at, history size, history ttl
-- Nothing happens where the task is no workflow.
local bar = read_bar(KEYS[1])
if not bar.head then return 0 end
tell_bar(bar, ARGV[1], ARGV[2], true, ARGV[3], ARGV[4])
write_bar(bar)
return 1
