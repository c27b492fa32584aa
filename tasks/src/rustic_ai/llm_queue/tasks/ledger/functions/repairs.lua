-- What a worker looks for that no worker is looking after.

-- A Redis that froze or was away let every lease run out, though their workers live; and a reap that
-- waited in a socket's buffer is the first thing it runs. So leases are reaped only while the sender's
-- own renewal is so young that every living worker's lease still stands.
-- returns: verdict and id in turn: 'requeued' (announce it), 'cancelled', 'lost', 'expired'
-- (conclude it), 'withdrawn' (report it: it was cancelled while it waited)
local function reap(_, args)
  local renewed_ms, within_ms, most = unpack(args)
  local now, found, run_out = now_ms(), {}, {}
  if now - tonumber(renewed_ms) <= tonumber(within_ms) then
    run_out = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, most)
  end
  local function add(verdict, id)
    found[#found + 1] = verdict
    found[#found + 1] = id
  end
  for _, id in ipairs(run_out) do
    local state, deadline, loss, cancel_by =
      fields(id, 'state', 'deadline_ms', 'on_worker_loss', 'cancel_by')
    if state ~= 'running' then redis.call('ZREM', LEASES, id)
    elseif cancel_by then add('cancelled', id)
    elseif loss == 'fail' then add('lost', id)
    elseif number(deadline, 0) <= now then add('expired', id)
    else
      redis.call('HSET', job_key(id), 'state', 'queued')
      redis.call('HDEL', job_key(id), 'claim_token')
      -- What its worker had asked for stays taken: a call may have been made. Its places are free.
      release(id, LOST)
      enqueue(id, now)
      add('requeued', id)
    end
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', now, 'LIMIT', 0, most)) do
    local state = fields(id, 'state')
    if state == 'queued' then add('expired', id)
    -- A running job is ended at its deadline by its worker; its lease covers the rest.
    elseif state ~= 'running' then redis.call('ZREM', DEADLINES, id) end
  end
  for _, id in ipairs(redis.call('LRANGE', WITHDRAWN, 0, most - 1)) do
    -- Every user that may cancel can write to this list: a job is reported once, and only if it is true.
    if fields(id, 'state') == 'cancelled' and redis.call('HSETNX', job_key(id), 'told', 1) == 1 then
      release(id, false)
      pcall(end_charge, id, fields(id, 'queue') or '', 0)
      add('withdrawn', id)
    end
  end
  redis.call('LTRIM', WITHDRAWN, most, -1)
  return found
end
register('reap', reap)

-- The time the oldest of the waiting messages was sent, as far as it is among those that are taken next; some of
-- these went ahead, and are later ones. False when none of those looked at is of a waiting job, and `none` when no
-- message waits.
local function oldest_announced(index, list, none)
  local tail, oldest = redis.call('LRANGE', list, -MOST_LOOKED_AT, -1), false
  if #tail == 0 then return none end
  for i = #tail, 1, -1 do
    local id = job_of(tail[i])
    local announced = id and tonumber(redis.call('ZSCORE', index, id) or nil)
    if announced then oldest = math.min(oldest or announced, announced) end
  end
  return oldest
end

-- Jobs whose wake-up was lost: sent before that of the oldest message that still waits (on a
-- deep queue a job merely waits), or, when no message waits, longer ago than the patience.
-- keys: queued index, Celery's list; returns: ids to announce again
local function unannounced(keys, args)
  local patience_ms, most = unpack(args)
  local now = now_ms()
  local oldest = oldest_announced(keys[1], keys[2], now)
  if not oldest then return {} end
  local horizon = math.min(oldest, now) - tonumber(patience_ms)
  local ids = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys[1], '-inf', horizon, 'LIMIT', 0, most)) do
    if fields(id, 'state') == 'queued' then
      redis.call('ZADD', keys[1], now, id)
      ids[#ids + 1] = id
    else
      redis.call('ZREM', keys[1], id)
    end
  end
  return ids
end
register('unannounced', unannounced)
