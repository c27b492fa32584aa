-- A worker has only those places left that it keeps for organisations of which it runs nothing.
-- queue; most: wake-ups at the most; then the organisations of which it runs jobs
-- returns: the wake-ups of jobs of others, one for each organisation, the most urgent first. They stay in the window,
-- too: a job is claimed once, whichever of its wake-ups comes first.
local function wakeups_of_others(_, args)
  local queue, most = unpack(args, 1, 2)
  local now, running, found = now_ms(), {}, {}
  most = tonumber(most)
  for i = 3, #args do running[args[i]] = true end
  -- No worker takes the jobs that were found before out of the window, as long as none has another place.
  for _, priority in ipairs(BANDS) do head_of(queue, priority) end
  local arrivals = redis.call('LLEN', ARRIVALS_PREFIX .. queue)
  if arrivals > 0 then sort_arrivals(queue, now, MOST_SORTED) end
  local function take(id)
    local org = flow_of(id).org_name
    if #found < most and not running[org] and fields(id, 'state') == 'queued' then
      running[org] = true
      found[#found + 1] = wakeup_of(id)
    end
  end
  for _, priority in ipairs(BANDS) do
    -- Newcomers are put at the window's front, and are the latest in its index.
    local index, announced = queued_key(queue, priority), '(' .. UNANNOUNCED
    local oldest = redis.call('ZRANGE', index, '-inf', announced, 'BYSCORE', 'LIMIT', 0, MOST_LOOKED_AT)
    local latest = redis.call('ZRANGE', index, announced, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, MOST_LOOKED_AT)
    for _, id in ipairs(oldest) do take(id) end
    for _, id in ipairs(latest) do take(id) end
    while #found < most do
      local id = next_in_turn(queue, priority, running)
      if not id then break end
      announce_first(id, now)
      take(id)
    end
  end
  if arrivals > 0 then mark_backlog(queue) end
  return found
end
register('wakeups_of_others', wakeups_of_others)
