-- How a worker takes a job, keeps it and gives it back.

-- The epoch that a job begins with which Redis has lost and its client has submitted again; 0 for any other.
local function first_epoch(generation)
  return math.min(number(generation, 0), MOST_GENERATIONS) * EPOCHS_OF_A_GENERATION
end

-- Whether it is such a job, which no worker has claimed since.
local function submitted_again(epoch, generation, claimed_ms)
  local first = first_epoch(generation)
  return first > 0 and not claimed_ms and tonumber(epoch) == first
end

-- keys: job
-- returns: {verdict, now ms, [record], [1 where some limit is closed to all, else 0]}; the verdicts: granted, missing, final, withdrawn (ended, and no
-- worker ran it to its end), leased, expired, exhausted, and reserved (for an earlier holder; the third is
-- for how many ms). A worker that lost the reply asks again with the same token and is granted again.
local function claim(keys, args)
  local id, worker, token, lease_ms, most_losses, reserved_ms, steady_since_ms, renewed_ms = unpack(args)
  local now = now_ms()
  local state, deadline, epoch, handbacks, holder, loss, queue, priority, generation, created, claimed =
    fields(id, 'state', 'deadline_ms', 'epoch', 'handbacks', 'claim_token', 'on_worker_loss', 'queue', 'priority',
      'generation', 'created_ms', 'claimed_ms')
  if not state then return {'missing', now} end
  -- Turns that cannot be kept do not keep a job from being run.
  pcall(take_turns, queue, priority, now, true)
  local closed = redis.call('EXISTS', CLOSED, PAUSES) > 0 and 1 or 0
  if FINAL[state] then return {fields(id, 'finished_epoch') and 'final' or 'withdrawn', now} end
  if state == 'running' then
    if holder ~= token then return {'leased', now} end
    return {'granted', now, redis.call('HGETALL', keys[1]), closed}
  end
  if number(deadline, 0) <= now then return {'expired', now, redis.call('HGETALL', keys[1])} end
  epoch = number(epoch, 0)
  if submitted_again(epoch, generation, claimed) then
    -- Of the time in which Redis was away its holder has had nothing.
    local from = math.max(number(created, 0), tonumber(steady_since_ms))
    if now - renewed_ms > tonumber(reserved_ms) then from = now end
    local left_ms = from + tonumber(reserved_ms) - now
    if left_ms > 0 then return {'reserved', now, left_ms} end
  end
  local losses = epoch - number(handbacks, 0)
  if losses > tonumber(most_losses) or (losses > 0 and loss == 'fail') then
    return {'exhausted', now, redis.call('HGETALL', keys[1])}
  end
  -- Its holder had it from before Redis lost it: no number of a claim of then may come again.
  local first = first_epoch(generation)
  if epoch < first then
    epoch = first
    redis.call('HSET', keys[1], 'handbacks', first - losses)
  end
  redis.call('HSET', keys[1], 'state', 'running', 'epoch', epoch + 1, 'worker', worker,
    'claim_token', token, 'claimed_ms', now)
  redis.call('HSETNX', keys[1], 'started_ms', now)
  redis.pcall('HINCRBY', keys[1], 'attempts_begun', 1)
  redis.call('ZREM', queued_beside(id), id)
  redis.call('ZADD', LEASES, now + lease_ms, id)
  return {'granted', now, redis.call('HGETALL', keys[1]), closed}
end
register('claim', claim)

-- keys: job; ended_attempts: JSON; returns 1, or 0 when another claim has the job
local function begin_attempt(keys, args)
  local id, epoch, attempts_begun, ended_attempts = unpack(args)
  if not holds(id, epoch) then return 0 end
  redis.call('HSET', keys[1], 'attempts_begun', attempts_begun, 'attempts', ended_attempts)
  return 1
end
register('begin_attempt', begin_attempt)

-- args: after the first, id and epoch of every job whose lease is renewed
-- returns: now ms, then the ids whose work must stop, each followed by 'lost' or 'cancelled'
local function renew(_, args)
  local lease_ms = args[1]
  local now = now_ms()
  local until_ms = now + tonumber(lease_ms)
  local stop = {now}
  for i = 2, #args, 2 do
    local id, epoch = args[i], args[i + 1]
    if not holds(id, epoch) then
      -- The reply to its own finish may still be on its way to this worker.
      if fields(id, 'finished_epoch') ~= epoch then
        stop[#stop + 1] = id
        stop[#stop + 1] = 'lost'
      end
    else
      redis.call('ZADD', LEASES, until_ms, id)
      if redis.call('HEXISTS', job_key(id), 'cancel_by') == 1 then
        stop[#stop + 1] = id
        stop[#stop + 1] = 'cancelled'
      end
    end
  end
  return stop
end
register('renew', renew)

-- Redis has lost the record of a job that its holder still runs, whose call would be billed again: the holder
-- writes it anew, or takes over the one that the client has submitted again and that nobody has claimed.
-- keys: job; own: its progress, then what was submitted, each as fields
-- returns: 1, or 0 when it is another's job, or has ended
local function take_back(keys, args)
  local id, epoch, fingerprints, lease_ms, deadline_ms, ttl_ms, generation, own = unpack(args, 1, 8)
  local now = now_ms()
  local state, current, known, cancel_by, again, claimed =
    fields(id, 'state', 'epoch', 'fingerprints', 'cancel_by', 'generation', 'claimed_ms')
  if state == 'running' then return current == epoch and 1 or 0 end
  if redis.call('EXISTS', keys[1]) == 0 then
    if tonumber(deadline_ms) <= now then return 0 end
    redis.call('HSET', keys[1], 'deadline_ms', deadline_ms, 'generation', generation + 1, unpack(args, 9 + own))
    redis.call('PEXPIRE', keys[1], deadline_ms - now + ttl_ms)
    redis.call('ZADD', DEADLINES, deadline_ms, id)
  elseif state ~= 'queued' or cancel_by or known ~= fingerprints
    or not submitted_again(current, again, claimed) then
    return 0
  end
  redis.call('HSET', keys[1], 'state', 'running', 'epoch', epoch, 'claimed_ms', now, unpack(args, 9, 8 + own))
  redis.call('ZREM', queued_beside(id), id)
  redis.call('ZADD', LEASES, now + lease_ms, id)
  return 1
end
register('take_back', take_back)

-- A worker that shuts down gives a job back. It counts as a loss only when a provider call was
-- under way, because only then can running it again be billed twice.
-- keys: job; ended_attempts: JSON; call_under_way: '1' or '0'
-- returns: 'queued' (announce it), 'stale', or the end that its holder must now give it: 'cancelled'
-- (asked for meanwhile), 'lost' (its owner wants no rerun)
local function hand_back(keys, args)
  local id, epoch, ended_attempts, attempts_begun, call_under_way = unpack(args)
  if not holds(id, epoch) then
    local state, current = fields(id, 'state', 'epoch')
    return (state == 'queued' and current == epoch) and 'queued' or 'stale'
  end
  local loss, cancel_by = fields(id, 'on_worker_loss', 'cancel_by')
  local under_way = call_under_way == '1'
  if cancel_by then return 'cancelled' end
  if under_way and loss == 'fail' then return 'lost' end
  redis.call('HSET', keys[1], 'attempts', ended_attempts, 'attempts_begun', attempts_begun, 'state', 'queued')
  redis.call('HDEL', keys[1], 'claim_token')
  if not under_way then redis.pcall('HINCRBY', keys[1], 'handbacks', 1) end
  local used = LOST
  if not under_way then used = false end
  release(id, used)
  enqueue(id, now_ms())
  return 'queued'
end
register('hand_back', hand_back)
