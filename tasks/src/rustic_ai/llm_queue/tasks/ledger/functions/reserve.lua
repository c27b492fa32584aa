-- A worker has only those places left that it keeps for organisations of which it runs nothing.
-- queue; most: wake-ups at the most; then the organisations of which it runs jobs
-- returns: the wake-ups of jobs of others, one for each organisation, the most urgent first. They stay in the window,
-- too: whoever comes second finds the job taken.
local function wakeups_of_others(_, args)
  local queue, most = unpack(args, 1, 2)
  local now = now_ms()
  if redis.call('LLEN', ARRIVALS_PREFIX .. queue) > 0 then
    sort_arrivals(queue, now, MOST_SORTED)
    mark_backlog(queue)
  end
  local runs, found = {}, {}
  for i = 3, #args do runs[args[i]] = true end
  for _, priority in ipairs(BANDS) do
    local index = queued_key(queue, priority)
    -- In the window, whose end is further than this, is who goes ahead or is next in turn.
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', '(' .. UNANNOUNCED, 'LIMIT', 0, 2 * MOST_LOOKED_AT)) do
      if #found >= tonumber(most) then return found end
      local org = flow_of(id).org_name
      if not runs[org] and fields(id, 'state') == 'queued' then
        runs[org] = true
        found[#found + 1] = wakeup_of(id)
      end
    end
  end
  return found
end
register('wakeups_of_others', wakeups_of_others)
