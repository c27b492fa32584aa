-- A guild has only so many calls under way at once. Its further jobs are parked: back on the queue,
-- unannounced until a job of the guild leaves. A place whose holder has no lease any more was left
-- behind by a lost worker.

-- keys: the guild's running jobs, its parked ones, job
-- returns: 'entered', 'parked', or 'stale' when another claim has the job
local function enter(keys, args)
  local id, epoch, most, patience_ms = unpack(args)
  local running, parked, job = unpack(keys)
  if not holds(id, epoch) then return 'stale' end
  most, patience_ms = tonumber(most), tonumber(patience_ms)
  local deadline, created, cancel_by = fields(id, 'deadline_ms', 'created_ms', 'cancel_by')
  if cancel_by or redis.call('SISMEMBER', running, id) == 1 then return 'entered' end
  local now = now_ms()
  local keep_ms = math.max(number(deadline, now) - now, 0) + patience_ms
  if redis.call('SCARD', running) >= most then
    for _, other in ipairs(redis.call('SMEMBERS', running)) do
      if not redis.call('ZSCORE', LEASES, other) then redis.call('SREM', running, other) end
    end
  end
  if redis.call('SCARD', running) < most then
    redis.call('SADD', running, id)
    if redis.call('PTTL', running) < keep_ms then redis.call('PEXPIRE', running, keep_ms) end
    return 'entered'
  end
  redis.call('HSET', job, 'state', 'queued')
  redis.call('HDEL', job, 'claim_token')
  redis.pcall('HINCRBY', job, 'handbacks', 1)
  -- A job that has called no provider yet has not started.
  if redis.pcall('HINCRBY', job, 'attempts_begun', -1) == 0 then redis.call('HDEL', job, 'started_ms') end
  -- Ahead of time, so that the reaper does not announce it before it is late.
  enqueue(id, now + patience_ms)
  redis.call('ZADD', parked, number(created, now), id)
  if redis.call('PTTL', parked) < keep_ms then redis.call('PEXPIRE', parked, keep_ms) end
  return 'parked'
end
register('enter', enter)

-- keys: the guild's running jobs, its parked ones
-- returns: the parked jobs there is room for now, the oldest first: announce them
local function leave(keys, args)
  local id, most = unpack(args)
  redis.call('SREM', keys[1], id)
  local now, ids = now_ms(), {}
  local room = tonumber(most) - redis.call('SCARD', keys[1])
  while #ids < room do
    local next_id = redis.call('ZPOPMIN', keys[2])[1]
    if not next_id then break end
    if fields(next_id, 'state') == 'queued' then
      redis.call('ZADD', queued_beside(next_id), 'XX', now, next_id)
      ids[#ids + 1] = next_id
    end
  end
  return ids
end
register('leave', leave)
