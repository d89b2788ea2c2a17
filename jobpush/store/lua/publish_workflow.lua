-- Have a workflow tell what it has left to tell, or what has come true without a word of its members.
-- ARGV: task id of the workflow (escaped), at, history size, history ttl, 1: nobody will ask later
-- Returns 1 if it is still to be told, because the workflow has told something a moment ago; 0 if it is told, or if the
-- task is no workflow.
local bar = read_bar(KEYS[1])
if not bar.head then return 0 end
tell_bar(bar, ARGV[1], ARGV[2], ARGV[5] == '1' and URGENT or ASKED, ARGV[3], ARGV[4])
write_bar(bar)
return bar.untold
