-- Admission: a job passes its limits before each provider call, or waits without a worker.

-- The job waits: it is no worker's any more, and on no queue.
local function park(id, begun, ended_attempts)
  local job = job_key(id)
  redis.call('HSET', job, 'state', 'queued', 'attempts_begun', begun, 'attempts', ended_attempts)
  redis.call('HDEL', job, 'claim_token')
  redis.pcall('HINCRBY', job, 'handbacks', 1)
  -- A job that has called no provider yet has not started.
  if begun == '0' then redis.call('HDEL', job, 'started_ms') end
  redis.call('ZREM', LEASES, id)
end

local function pause_until(id, until_ms)
  redis.call('ZADD', PAUSED, until_ms, id)
  redis.call('PEXPIRE', PAUSED, DAY_IN_MS)
end

-- Whether what was granted for the limits in `text` is enough for these: the same, and no budget holds more.
local function covers(text, limits)
  local held = limits_of(words_of(text))
  if #held ~= #limits then return false end
  for i, limit in ipairs(limits) do
    if held[i].id ~= limit.id or (limit.cap and limit.hold > held[i].hold) then return false end
  end
  return true
end

-- Takes back the places that an earlier call left for this one, of limits that it has not passed.
local function drop_places(id, places, limits, passed)
  local freed = {}
  for i = passed + 1, #limits do
    local place = limits[i].id
    if places[place] then
      redis.call('ZREM', RUNNING_PREFIX .. place, id)
      freed[#freed + 1] = place
    end
  end
  return freed
end

-- What the ledger grants while a job waits stands for this long: a call that a busy worker takes up later
-- would meet, at the provider, those granted after it.
local MOST_LATE_MS = 1000

-- Gives back what a job holds of an earlier call, but for places in limits that it passes again. What it held
-- for a call that it has not made goes back whole, unless that was too long ago.
local function give_back_earlier(id, text, limits, in_time, waits_for, used)
  if in_time or waits_for then used = false end
  local staying, places = {}, {}
  for _, limit in ipairs(limits) do staying[limit.id] = true end
  for _, limit in ipairs(limits_of(words_of(text))) do
    if staying[limit.id] and limit.most_running > 0 then places[limit.id] = true end
  end
  return give_back(id, used, staying), places
end

-- The limit `stop` has no room for the job: it waits there, or is refused where it may not wait so long.
local function wait_or_refuse(id, begun, ended_attempts, latest, deadline, limit, at, order, keep_ms, now)
  local ahead = redis.call('ZCOUNT', WAITING_PREFIX .. limit.id, '-inf', '(' .. whole(order))
  local after_ms = at < NEVER - 1 and math.ceil((at - now) / 1000) or -1
  local now_in_ms = math.floor(now / 1000)
  local no_wait = limit.cap and (limit.mode == Budget.REFUSES or limit.hold > limit.limit)
  if no_wait or latest <= now_in_ms or (at < NEVER and at / 1000 >= latest) then
    return give_back(id, false), {'refused', limit.id, after_ms, ahead, unpack(Budget.states({limit}))}
  end
  park(id, begun, ended_attempts)
  redis.call('HSETNX', job_key(id), 'limited_since_ms', now_in_ms)
  redis.call('HSET', held_key(id), 'waits_since_ms', now_in_ms)
  wait_at(id, limit, at, order, keep_ms, now)
  if latest < deadline then pause_until(id, latest) end
  return {}, {'waits', limit.id, after_ms, ahead}
end

-- keys: job; begun, ended_attempts: the provider calls before this one; longest_wait_ms: since it first
-- waited, '' for its deadline, '0' not to wait at all; used_*: of the call before, '' if unknown;
-- then the limits, narrow ones first, each as id, 'all' or 'input', and its numbers
-- returns: {'granted', '', -1, 0, budgets …}, {'waits' | 'refused', limit id, ms until it has room or -1, jobs
-- ahead, the budget if it is one}, each budget as spent, held and limit;
-- {'cancelled'}, or {'stale'} when another claim has the job
local function admit(_, args)
  local id, epoch, begun, ended_attempts, longest_wait_ms, used_input, used_output, used_nano = unpack(args, 1, 8)
  local limits, number_of_call = limits_of({unpack(args, 9)}), tostring(begun + 1)
  local waits_for, admitted, text, granted = held(id, 'waits_for', 'admitted', 'limits', 'granted_ms')
  local state, current, cancel_by, deadline, since, priority, created = fields(id, 'state', 'epoch',
    'cancel_by', 'deadline_ms', 'limited_since_ms', 'priority', 'created_ms')
  if state ~= 'running' or current ~= epoch then
    if state == 'queued' and current == epoch and waits_for then return {'waits', waits_for, -1, 0} end
    return {'stale'}
  end
  if cancel_by then return {'cancelled'} end
  if admitted == number_of_call then return {'granted', '', -1, 0, unpack(Budget.states(limits))} end
  local now, freed, places = now_us(), {}, {}
  local in_time = granted and now / 1000 - number(granted, 0) <= MOST_LATE_MS
  if in_time and covers(text, limits) then
    redis.call('HSET', held_key(id), 'admitted', number_of_call)
    redis.call('HDEL', held_key(id), 'granted_ms')
    return {'granted', '', -1, 0, unpack(Budget.states(limits))}
  end
  if text then
    local used = nil
    if admitted then used = used_of(used_input, used_output, used_nano) end
    freed, places = give_back_earlier(id, text, limits, in_time, waits_for, used)
  end
  local now_in_ms, latest = math.floor(now / 1000), number(deadline, 0)
  local order, keep_ms = number(priority, 0) * 2^46 + number(created, 0),
    math.max(latest - now_in_ms, 0) + KEPT_IDLE_MS
  local stop, at = pass(id, limits, 1, order, now, keep_ms)
  local passed = (stop or #limits + 1) - 1
  for _, place in ipairs(drop_places(id, places, limits, passed)) do freed[#freed + 1] = place end
  redis.call('HSET', held_key(id), 'limits', table.concat(args, ' ', 9), 'passed', passed,
    'admitted', stop and '' or number_of_call)
  redis.call('PEXPIRE', held_key(id), keep_ms)
  local answer, more = nil, {}
  if not stop then
    answer = {'granted', '', -1, 0, unpack(Budget.states(limits))}
  else
    if longest_wait_ms ~= '' then
      latest = math.min(latest, number(since, now_in_ms) + tonumber(longest_wait_ms))
    end
    more, answer = wait_or_refuse(id, begun, ended_attempts, latest, number(deadline, 0), limits[stop], at,
      order, keep_ms, now)
  end
  for _, one in ipairs(more) do freed[#freed + 1] = one end
  grant_all(freed, now)
  return answer
end
register('admit', admit)

-- A job waits for the time of its next attempt without a worker.
-- keys: job; begun, ended_attempts: the provider calls so far; used_*: tokens of the last, '' if unknown
-- returns: 'queued', 'cancelled' (its holder must end it so), or 'stale'
local function pause(keys, args)
  local id, epoch, begun, ended_attempts, pause_ms, used_input, used_output, used_nano = unpack(args)
  local cancel_by = fields(id, 'cancel_by')
  if not holds(id, epoch) then
    local state, current = fields(id, 'state', 'epoch')
    return (state == 'queued' and current == epoch) and 'queued' or 'stale'
  end
  if cancel_by then return 'cancelled' end
  local until_ms = now_ms() + tonumber(pause_ms)
  release(id, used_of(used_input, used_output, used_nano))
  park(id, begun, ended_attempts)
  redis.call('HSET', keys[1], 'paused_until_ms', until_ms)
  pause_until(id, until_ms)
  return 'queued'
end
register('pause', pause)

-- A pause is over: the job goes on, or gives up its place in the line it has stood in long enough.
local function end_pause(id, now)
  redis.call('ZREM', PAUSED, id)
  local state, paused = fields(id, 'state', 'paused_until_ms')
  local waits_for = held(id, 'waits_for')
  if state ~= 'queued' or not (waits_for or paused) then return end
  if waits_for then
    note_waited(id, math.floor(now / 1000))
    release(id, false)
  end
  redis.call('HDEL', job_key(id), 'paused_until_ms')
  announce_first(id, math.floor(now / 1000))
end

-- Starts the jobs whose time has come. Any worker may, as often as it likes.
-- returns: ms until there is more to do, -1 when nothing waits for a time
local function tick(_, args)
  local most = args[1]
  local now = now_us()
  local now_in_ms = math.floor(now / 1000)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', PAUSED, '-inf', now_in_ms, 'LIMIT', 0, most)) do
    end_pause(id, now)
  end
  for _, limit in ipairs(redis.call('ZRANGEBYSCORE', ALARMS, '-inf', whole(now), 'LIMIT', 0, most)) do
    redis.call('ZREM', ALARMS, limit)
    grant(limit, now, MOST_STARTED)
  end
  local alarm = redis.call('ZRANGE', ALARMS, 0, 0, 'WITHSCORES')[2]
  local pause_end = redis.call('ZRANGE', PAUSED, 0, 0, 'WITHSCORES')[2]
  local after = math.min(alarm and tonumber(alarm) / 1000 or NEVER, pause_end and tonumber(pause_end) or NEVER)
  return after < NEVER and math.max(math.ceil(after - now / 1000), 0) or -1
end
register('tick', tick)

-- A provider asks for a pause: the limit is closed to all jobs of all workers. Without a time of its
-- own the pause doubles with each that follows. What is open again is so for one job first.
-- for_ms: '' where the provider names none; returns: ms until it opens
local function cool(_, args)
  local limit_id, for_ms, most_ms, why, request_burst_us, token_burst_us = unpack(args)
  local key, now = LIMIT_PREFIX .. limit_id, now_us()
  local closed, failures, r, t = unpack(redis.call('HMGET', key, 'u', 'k', 'r', 't'))
  closed, failures = tonumber(closed or 0), tonumber(failures or 0)
  -- Calls that were under way together meet one and the same limit of the provider's.
  if closed <= now then failures = failures + 1 end
  local pause_ms = for_ms ~= '' and tonumber(for_ms) or math.min(2 ^ (failures - 1), 60) * 1000
  local until_us = math.max(closed, now + math.min(math.max(pause_ms, 0), tonumber(most_ms)) * 1000)
  redis.call('HSET', key, 'u', whole(until_us), 'k', failures, 'why', why,
    -- Its buckets are empty when it opens, so that calls begin at the limit's rate.
    'r', whole(math.max(tonumber(r or 0), until_us + tonumber(request_burst_us))),
    't', whole(math.max(tonumber(t or 0), until_us + tonumber(token_burst_us))))
  redis.call('HDEL', key, 'probe', 'probe_until')
  redis.call('PEXPIRE', key, math.ceil((until_us - now) / 1000) + KEPT_IDLE_MS)
  redis.call('ZADD', CLOSED, whole(until_us), limit_id)
  redis.call('PEXPIRE', CLOSED, math.ceil((until_us - now) / 1000) + KEPT_IDLE_MS, 'GT')
  if redis.call('PTTL', CLOSED) < 0 then redis.call('PEXPIRE', CLOSED, DAY_IN_MS) end
  remember({id = limit_id}, now)
  if redis.call('EXISTS', WAITING_PREFIX .. limit_id) == 1 then
    set_alarm(limit_id, until_us, 'CH')
  end
  return math.ceil((until_us - now) / 1000)
end
register('cool', cool)

-- A provider has less left than our buckets say: another uses the key as well. Only ever tightens.
-- *_us: how far ahead of the clock each bucket has to be at least
local function hold_off(_, args)
  local limit_id, requests_us, tokens_us, output_us = unpack(args)
  local key, now, latest = LIMIT_PREFIX .. limit_id, now_us(), 0
  for name, ahead in pairs({r = requests_us, t = tokens_us, o = output_us}) do
    local tat = now + tonumber(ahead)
    if tat > now and tat > tonumber(redis.call('HGET', key, name) or 0) then
      redis.call('HSET', key, name, whole(tat))
      latest = math.max(latest, tonumber(ahead))
    end
  end
  if latest > 0 then redis.call('PEXPIRE', key, math.ceil(latest / 1000) + KEPT_IDLE_MS) end
  return 1
end
register('hold_off', hold_off)

-- Puts right what no step did: a limit with jobs that wait but neither an alarm nor a holder, a place
-- whose holder is gone, a limit that is forgotten, one that has been open long enough.
-- returns: how many limits had to be put right
local function repair_limits(_, args)
  local most = args[1]
  local now, repaired = now_us(), 0
  for _, limit in ipairs(redis.call('ZRANGE', LIMITS, 0, most - 1)) do
    local inside, waiting = RUNNING_PREFIX .. limit, WAITING_PREFIX .. limit
    for _, id in ipairs(redis.call('ZRANGE', inside, 0, most - 1)) do
      local text, passed = held(id, 'limits', 'passed')
      local holds_it = false
      for i, one in ipairs(limits_of(words_of(text))) do
        if one.id == limit and i <= number(passed, 0) then holds_it = true end
      end
      if not holds_it then
        redis.call('ZREM', inside, id)
        repaired = repaired + 1
      end
    end
    local known = redis.call('EXISTS', LIMIT_PREFIX .. limit, inside) > 0
    if redis.call('EXISTS', waiting) == 1 then
      set_alarm(limit, now, 'NX')
    elseif not known then
      redis.call('ZREM', LIMITS, limit)
      redis.call('ZREM', CLOSED, limit)
    end
  end
  redis.call('ZREMRANGEBYSCORE', CLOSED, '-inf', whole(now - KEPT_IDLE_MS * 1000))
  for _, name in ipairs(redis.call('HKEYS', PAUSES)) do
    if tonumber(redis.call('HGET', PAUSES, name)) <= now then redis.call('HDEL', PAUSES, name) end
  end
  return repaired
end
register('repair_limits', repair_limits)

-- What a cancelled job held goes back. Agents may cancel, and their rights do not reach the limits: the
-- workers that receive the cancel call this.
-- returns: 1 where it held something
local function give_up(_, args)
  local id = args[1]
  if not FINAL[fields(id, 'state') or ''] then return 0 end
  local freed = give_back(id, false)
  grant_all(freed, now_us())
  return #freed > 0 and 1 or 0
end
register('give_up', give_up)
