-- How a job ends: the holder finishes it, or it is concluded while no worker holds it.

-- Every end goes through here: the state, Celery's result, the end of the stream and the publication
-- of all that, in one step.
local function settle(id, state, meta, result_ttl_ms, now)
  local job = job_key(id)
  -- The answer stays for as long as the caller's idempotency key stands for it.
  local keep_until, reply_channel, flight, limited, paused =
    fields(id, 'keep_until_ms', 'reply_channel', 'flight', 'limited_by', 'paused_until_ms')
  if keep_until then result_ttl_ms = math.max(result_ttl_ms, keep_until - now) end
  redis.call('HSET', job, 'state', state, 'ended_ms', now)
  if state == 'answered' then redis.call('HDEL', job, 'request') end
  if limited or paused then redis.call('HDEL', job, 'waits_for', 'ahead', 'starts_at_ms', 'paused_until_ms') end
  redis.call('PEXPIRE', job, result_ttl_ms)
  redis.call('ZREM', queued_beside(id), id)
  redis.call('ZREM', LEASES, id)
  redis.call('ZREM', DEADLINES, id)
  redis.call('SET', result_key(id), meta, 'PX', result_ttl_ms)
  -- Redis drops a subscriber whose messages pile up (32 MB by default), and a thousand vectors are 8.
  local message = #meta <= MOST_PUBLISHED and meta or STORED
  redis.call('PUBLISH', result_channel(id), message)
  -- A process that awaits many jobs listens on one channel for all of them. The prefix keeps a record
  -- that was tampered with from naming any other channel.
  if reply_channel then redis.call('PUBLISH', result_channel(reply_channel), id .. ':' .. message) end
  end_stream(id, state, result_ttl_ms)
  -- An agent that cancels has no rights on flights: `repair_flights` finds what is then left of this one.
  if flight then pcall(leave_flight, flight, id, state, now) end
end

-- keys: job; meta: Celery's result; dead: '1' to list it as dead; used_*: of the last call,
-- '' if unknown; then the arguments of `book`, if there is anything to book
-- returns: 'done', 'already' (this very epoch ended it), or 'stale'
local function finish(keys, args)
  local id, epoch, state, meta, ttl_ms, attempts, dead, input, output, nano_usd = unpack(args, 1, 10)
  if not holds(id, epoch) then
    return fields(id, 'finished_epoch') == epoch and 'already' or 'stale'
  end
  local now = now_ms()
  redis.call('HSET', keys[1], 'attempts', attempts, 'finished_epoch', epoch)
  settle(id, state, meta, tonumber(ttl_ms), now)
  release(id, used_of(input, output, nano_usd))
  if dead == '1' then bury(id, now, tonumber(ttl_ms)) end
  local queue, priority = fields(id, 'queue', 'priority')
  pcall(correct_charge, id, queue or '', input, output)
  pcall(take_turns, queue, priority, now, false)
  -- Books that cannot be written do not keep a job from ending.
  if args[11] then
    pcall(book, now, unpack(args, 11))
    pcall(book_flow, now, id, args[11], args[12], number(input, 0) + number(output, 0))
  end
  return 'done'
end
register('finish', finish)

-- Ends a job that no worker runs: expired, exhausted, unreadable, or lost for good.
-- keys: job; seen_epoch: as the caller saw it; dead: '1' to list it as dead
-- returns: 'done' or 'stale'
local function conclude(keys, args)
  local id, seen_epoch, state, meta, result_ttl_ms, dead = unpack(args)
  local current_state, epoch = fields(id, 'state', 'epoch')
  if not current_state or FINAL[current_state] or number(epoch, 0) ~= tonumber(seen_epoch) then
    return 'stale'
  end
  local now = now_ms()
  if current_state == 'running' then
    local lease = redis.call('ZSCORE', LEASES, id)
    if lease and tonumber(lease) > now then return 'stale' end
  end
  -- A job that waits has made no call for what it holds; of a lost worker's call nothing is known.
  local used = LOST
  if current_state == 'queued' then used = false end
  settle(id, state, meta, tonumber(result_ttl_ms), now)
  release(id, used)
  local queue, begun = fields(id, 'queue', 'attempts_begun')
  pcall(end_charge, id, queue or '', number(begun, 0) == 0 and 0 or nil)
  if dead == '1' then bury(id, now, tonumber(result_ttl_ms)) end
  return 'done'
end
register('conclude', conclude)

-- Ends a job that follows a flight with what its leader got.
-- keys: job; name: the flight's; meta: Celery's result; dead: '1' to list it as dead; then the arguments
-- of `book`, if there is anything to book
-- returns: 'done', or 'stale' when it does not wait for that flight any more
local function finish_follower(keys, args)
  local id, name, state, meta, result_ttl_ms, dead = unpack(args)
  redis.call('ZREM', FOLLOWERS_PREFIX .. name, id)
  if not waits_for(id, name) then return 'stale' end
  local now = now_ms()
  settle(id, state, meta, tonumber(result_ttl_ms), now)
  pcall(end_charge, id, fields(id, 'queue') or '', 0)
  if dead == '1' then bury(id, now, tonumber(result_ttl_ms)) end
  if args[7] then pcall(book, now, unpack(args, 7)) end
  return 'done'
end
register('finish_follower', finish_follower)

-- keys: job; meta: Celery's result; waiting_only: '1' to leave a running job alone
-- returns: 'cancelled' (it waited), 'cancelling' (its worker is notified), 'running' (left alone),
-- 'ended' (before this), or 'missing'
local function cancel(keys, args)
  local id, by, meta, result_ttl_ms, waiting_only = unpack(args)
  local state = redis.call('HGET', keys[1], 'state')
  if not state then
    -- Where Redis has lost the record, a worker may run the job all the same.
    redis.call('PUBLISH', CANCEL_CHANNEL, id)
    return 'missing'
  end
  if FINAL[state] then return 'ended' end
  if state == 'running' and waiting_only == '1' then return 'running' end
  redis.call('HSETNX', keys[1], 'cancel_by', by)
  if state == 'queued' then
    -- The workers give back what it holds of limits (`give_up`), and report it later (`reap`).
    if fields(id, 'limited_by') then redis.call('PUBLISH', CANCEL_CHANNEL, id) end
    settle(id, 'cancelled', meta, tonumber(result_ttl_ms), now_ms())
    -- Agents' rights of an older release do not cover this list; then it goes unreported.
    redis.pcall('LPUSH', WITHDRAWN, id)
    redis.pcall('LTRIM', WITHDRAWN, 0, MOST_WITHDRAWN - 1)
    redis.pcall('PEXPIRE', WITHDRAWN, result_ttl_ms)
    return 'cancelled'
  end
  redis.call('PUBLISH', CANCEL_CHANNEL, id)
  return 'cancelling'
end
register('cancel', cancel)
