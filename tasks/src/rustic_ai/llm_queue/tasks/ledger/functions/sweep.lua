-- What every worker's reaper does for the turns: the policy, lost jobs, and the ageing of waiting ones.
local MOST_AGED = 64

-- Jobs that have waited long in one priority go up to the next, behind those in its window: in front, the latest
-- would hide from this those that came up before them. They take no more than a second window's length there.
-- returns: how many went up
local function lift_aged(queue, from, to, now, ageing_ms)
  local most = 2 * tonumber(redis.call('HGET', FAIR_SHARE, 'window') or USUAL_WINDOW)
  for lifted = 0, MOST_AGED - 1 do
    local id = head_of(queue, from)
    if not id or redis.call('LLEN', message_list(queue, to)) >= most then return lifted end
    local created, since = fields(id, 'created_ms', 'lifted_ms')
    if now - math.max(number(created, now), number(since, 0)) < ageing_ms then return lifted end
    lift(id, queue, from, to, now, announce_last)
  end
  return MOST_AGED
end

-- Jobs that are in no list and no backlog, as after a restart that lost the latest writes, arrive anew.
local function find_lost(queue, priority, now, patience_ms)
  local index = queued_key(queue, priority)
  local latest = UNANNOUNCED + now - patience_ms
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', index, UNANNOUNCED, latest, 'LIMIT', 0, MOST_LOOKED_AT)) do
    local flow = flow_of(id)
    local flows = flows_key(queue, priority)
    local guild = bounded(flows .. ':' .. bounded(flows, flow.org), flow.guild)
    if not redis.call('ZSCORE', backlog_key(queue, priority, guild), id) then
      if fields(id, 'state') == 'queued' then sort_in(id, queue, now)
      else redis.call('ZREM', index, id) end
    end
  end
end

-- Runs in every worker's reaper: the policy, what no claim brought on, and the ageing of waiting jobs.
-- after the first: the policy's fields and their values, in turn
-- returns: how many jobs were lifted to a higher priority, and how many have still to be sorted in
local function share(_, args)
  local queue, ageing_ms, patience_ms = unpack(args, 1, 3)
  local now, lifted = now_ms(), 0
  local turns = redis.call('HGET', FAIR_SHARE, 'turns:' .. queue)
  redis.call('DEL', FAIR_SHARE)
  redis.call('HSET', FAIR_SHARE, 'turns:' .. queue, turns or 0, unpack(args, 4))
  keep_for_a_day(FAIR_SHARE)
  if redis.call('LLEN', arrivals_key(queue)) > 0 then sort_arrivals(queue, now, 4 * MOST_SORTED) end
  for band, priority in ipairs(BANDS) do
    find_lost(queue, priority, now, tonumber(patience_ms))
    refill(queue, priority, now)
    if band > 1 then
      lifted = lifted + lift_aged(queue, priority, BANDS[band - 1], now, tonumber(ageing_ms))
    end
  end
  mark_backlog(queue)
  return {lifted, math.max(redis.call('LLEN', arrivals_key(queue)) - 1, 0)}
end
register('share', share)
