-- The ledger: every change of a job's state, each one atomic, on Redis' own clock.
-- Loaded as a function library, so that an ACL can allow these functions (+fcall) and no
-- script of anybody else's. LIB is replaced by a name that holds a hash of this text: two
-- releases run side by side against one server.

local PREFIX = 'llmq:'
local LEASES, DEADLINES, DEAD = PREFIX .. 'leases', PREFIX .. 'deadlines', PREFIX .. 'dead'
local CANCEL_CHANNEL = PREFIX .. 'cancel'
local WITHDRAWN, MOST_WITHDRAWN = PREFIX .. 'withdrawn', 100000
local FINAL = {answered = true, failed = true, cancelled = true, expired = true}

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function job_key(id) return PREFIX .. 'job:' .. id end
local function queued_key(queue, priority) return PREFIX .. 'queued:' .. queue .. ':' .. priority end
local function result_key(id) return 'celery-task-meta-' .. id end

-- The fields asked for, with false where there is none, and none where the record is not a hash:
-- one record that somebody has tampered with must not keep a reap from the others.
local function fields(id, ...)
  local values = redis.pcall('HMGET', job_key(id), ...)
  if values.err then return end
  return unpack(values)
end

-- A field as the whole number it should hold.
local function number(text, otherwise)
  return text and #text < 16 and string.find(text, '^%d+$') and tonumber(text) or otherwise
end

-- The index of the jobs that wait beside this one.
local function queued_beside(id)
  local queue, priority = fields(id, 'queue', 'priority')
  return queued_key(queue or '', priority or '0')
end

local function enqueue(id, now)
  redis.call('ZREM', LEASES, id)
  redis.call('ZADD', queued_beside(id), now, id)
end

local function bury(id, now, ttl_ms)
  redis.call('ZREMRANGEBYSCORE', DEAD, '-inf', now - ttl_ms)
  redis.call('ZADD', DEAD, now, id)
  redis.call('PEXPIRE', DEAD, ttl_ms)
end

local function log_key(id) return PREFIX .. 'stream:' .. id end

local function stream_ttl_ms(given_s, otherwise_ms)
  local seconds = tonumber(given_s or '')
  return seconds and seconds > 0 and seconds < 2^31 and math.ceil(seconds * 1000) or otherwise_ms
end

-- A stream ends in the same step as its job. A log that is not one any more must not keep the
-- job from ending: it is begun anew.
local function end_stream(id, state, result_ttl_ms)
  local stream, epoch, ttl_s = fields(id, 'stream', 'epoch', 'stream_ttl_s')
  if stream ~= '1' then return end
  epoch = epoch or '0'
  local log, frame = log_key(id), 'end:' .. state
  local at = redis.pcall('XADD', log, epoch .. '-*', 'frame', frame)
  if type(at) == 'table' then
    redis.call('DEL', log)
    at = redis.pcall('XADD', log, epoch .. '-*', 'frame', frame)
    if type(at) == 'table' then return end
  end
  redis.call('PEXPIRE', log, stream_ttl_ms(ttl_s, result_ttl_ms))
  redis.call('PUBLISH', PREFIX .. 'frames:' .. id, at .. ':' .. frame)
end

-- The one way a job ends: its state, Celery's result, the end of its stream and the news of it,
-- in one step.
local function settle(id, state, meta, result_ttl_ms, now)
  local job = job_key(id)
  -- The answer stays for as long as the caller's key stands for it.
  local keep_until, mailbox = fields(id, 'keep_until_ms', 'mailbox')
  if keep_until then result_ttl_ms = math.max(result_ttl_ms, keep_until - now) end
  redis.call('HSET', job, 'state', state, 'ended_ms', now)
  if state == 'answered' then redis.call('HDEL', job, 'request') end
  redis.call('PEXPIRE', job, result_ttl_ms)
  redis.call('ZREM', queued_beside(id), id)
  redis.call('ZREM', LEASES, id)
  redis.call('ZREM', DEADLINES, id)
  redis.call('SET', result_key(id), meta, 'PX', result_ttl_ms)
  redis.call('PUBLISH', result_key(id), meta)
  -- Whoever awaits many jobs hears of all of them in one place: a result's channel by its name, whatever
  -- somebody may have written into the record.
  if mailbox then redis.call('PUBLISH', result_key(mailbox), id .. ':' .. meta) end
  end_stream(id, state, result_ttl_ms)
end

-- The books of a day: per organisation a hash of sums by guild, agent and model. Bounded, as these are
-- the tenants' own words: what finds no room is booked under "other", so the sums stay exact.
local DAY_MS, MOST_ROWS, MOST_ROWS_OF_ONE, MOST_ORGS = 86400000, 20000, 10000, 500
local OTHER, OTHER_ROW = 'other', '["other","other","other"]'

local function row_for(index, org, row)
  local function has(one_org, one_row)
    return redis.call('HEXISTS', index .. ':' .. one_org, 'jobs ' .. one_row) == 1
  end
  if not has(org, row) then
    local rows, own = unpack(redis.call('HMGET', index, '', org))
    if tonumber(rows or 0) >= MOST_ROWS or tonumber(own or 0) >= MOST_ROWS_OF_ONE then row = OTHER_ROW end
    if not own and redis.call('HLEN', index) > MOST_ORGS then org, row = OTHER, OTHER_ROW end
    if not has(org, row) then
      redis.call('HINCRBY', index, '', 1)
      redis.call('HINCRBY', index, org, 1)
    end
  end
  return index .. ':' .. org, row
end

-- What went through in each minute, by model: for who watches, so kept for a quarter of an hour.
local MOST_MODELS, MINUTES_KEPT_MS = 200, 900000

local function book_minute(minute, model, pico_usd, tokens)
  local key = PREFIX .. 'minute:' .. minute
  if redis.call('HEXISTS', key, 'jobs ' .. model) == 0 and redis.call('HLEN', key) >= 3 * MOST_MODELS then
    model = OTHER
  end
  redis.call('HINCRBY', key, 'jobs ' .. model, 1)
  redis.call('HINCRBY', key, 'tokens ' .. model, tokens)
  redis.call('HINCRBY', key, 'pico_usd ' .. model, pico_usd == '' and 0 or pico_usd)
  redis.call('PEXPIRE', key, MINUTES_KEPT_MS)
end

-- args: org, guild, agent, model, picodollars or '' for no price, prompt and completion tokens, ttl ms
local function book(now, org, guild, agent, model, pico_usd, prompt_tokens, completion_tokens, ttl_ms)
  local day = math.floor(now / DAY_MS)
  local index = PREFIX .. 'costs:' .. day
  local key, row = row_for(index, org, cjson.encode({guild, agent, model}))
  redis.call('HINCRBY', key, 'jobs ' .. row, 1)
  redis.call('HINCRBY', key, 'prompt_tokens ' .. row, prompt_tokens)
  redis.call('HINCRBY', key, 'completion_tokens ' .. row, completion_tokens)
  if pico_usd == '' then redis.call('HINCRBY', key, 'unpriced ' .. row, 1)
  else redis.call('HINCRBY', key, 'pico_usd ' .. row, pico_usd) end
  for _, one in ipairs({index, key}) do
    redis.call('PEXPIREAT', one, (day + 1) * DAY_MS + tonumber(ttl_ms))
  end
  book_minute(math.floor(now / 60000), model, pico_usd, prompt_tokens + completion_tokens)
end

local function same_request(known, given)
  for fingerprint in string.gmatch(given, '[^,]+') do
    if string.find(',' .. known .. ',', ',' .. fingerprint .. ',', 1, true) then return true end
  end
  return false
end

-- keys: job, [idempotency key]
-- args: id, fingerprints, timeout ms, record ttl ms, idempotency ttl ms, Celery's list, the wake-up for
-- it, then the record's fields
-- returns: {'created' | 'exists' | 'conflict', job id}
local function submit(keys, args)
  local id, fingerprints, timeout_ms = args[1], args[2], tonumber(args[3])
  local known = redis.call('HGET', keys[1], 'fingerprints')
  if known then
    return {same_request(known, fingerprints) and 'exists' or 'conflict', id}
  end
  if keys[2] then
    local first = redis.call('HMGET', keys[2], 'id', 'fingerprints')
    local state = first[1] and fields(first[1], 'state')
    -- A cancelled job has no answer the key could stand for: it may have been one whose caller was
    -- told that Redis is away.
    if state and state ~= 'cancelled' then
      return {same_request(first[2], fingerprints) and 'exists' or 'conflict', first[1]}
    end
    redis.call('HSET', keys[2], 'id', id, 'fingerprints', fingerprints)
    redis.call('PEXPIRE', keys[2], args[5])
  end
  local now = now_ms()
  if keys[2] then redis.call('HSET', keys[1], 'keep_until_ms', now + args[5]) end
  local record = {}
  for i = 8, #args do record[#record + 1] = args[i] end
  redis.call('HSET', keys[1], 'state', 'queued', 'created_ms', now,
    'deadline_ms', now + timeout_ms, 'epoch', 0, 'attempts_begun', 0, 'handbacks', 0, unpack(record))
  redis.call('PEXPIRE', keys[1], timeout_ms + args[4])
  redis.call('ZADD', queued_beside(id), now, id)
  redis.call('ZADD', DEADLINES, now + timeout_ms, id)
  -- Where somebody has put something else in the list's place, the job is announced once it is gone.
  redis.pcall('LPUSH', args[6], args[7])
  return {'created', id}
end

-- keys: job
-- args: id, worker, claim token, lease ms, most losses
-- returns: {verdict, now ms, [record]}; the verdicts: granted, missing, final, withdrawn (ended, and no
-- worker ran it to its end), leased, expired, exhausted. A worker that lost the reply asks again with the
-- same token and is granted again.
local function claim(keys, args)
  local id, worker, token, lease_ms = args[1], args[2], args[3], tonumber(args[4])
  local now = now_ms()
  local state, deadline, epoch, handbacks, holder, loss =
    fields(id, 'state', 'deadline_ms', 'epoch', 'handbacks', 'claim_token', 'on_worker_loss')
  if not state then return {'missing', now} end
  if FINAL[state] then return {fields(id, 'finished_epoch') and 'final' or 'withdrawn', now} end
  if state == 'running' then
    if holder ~= token then return {'leased', now} end
    return {'granted', now, redis.call('HGETALL', keys[1])}
  end
  if number(deadline, 0) <= now then return {'expired', now, redis.call('HGETALL', keys[1])} end
  epoch = number(epoch, 0)
  local losses = epoch - number(handbacks, 0)
  if losses > tonumber(args[5]) or (losses > 0 and loss == 'fail') then
    return {'exhausted', now, redis.call('HGETALL', keys[1])}
  end
  redis.call('HSET', keys[1], 'state', 'running', 'epoch', epoch + 1, 'worker', worker,
    'claim_token', token, 'claimed_ms', now)
  redis.call('HSETNX', keys[1], 'started_ms', now)
  redis.pcall('HINCRBY', keys[1], 'attempts_begun', 1)
  redis.call('ZREM', queued_beside(id), id)
  redis.call('ZADD', LEASES, now + lease_ms, id)
  return {'granted', now, redis.call('HGETALL', keys[1])}
end

local function holds(id, epoch)
  local state, current = fields(id, 'state', 'epoch')
  return state == 'running' and current == epoch
end

-- keys: job; args: id, epoch, attempts begun, ended attempts as JSON; returns 1, or 0 when fenced off
local function begin_attempt(keys, args)
  if not holds(args[1], args[2]) then return 0 end
  redis.call('HSET', keys[1], 'attempts_begun', args[3], 'attempts', args[4])
  return 1
end

-- keys: job, log
-- args: id, epoch, sequence number, frame, channel, result ttl ms, '1' when all before it is void
-- returns: 1, or 0 when fenced off
local function emit(keys, args)
  local id, epoch, log = args[1], args[2], keys[2]
  if not holds(id, epoch) then return 0 end
  local at = epoch .. '-' .. args[3]
  local added = redis.pcall('XADD', log, at, 'frame', args[4])
  if type(added) == 'table' then
    -- Sent again because the reply was lost: it stands there and has been published.
    if #redis.call('XRANGE', log, at, at) == 0 then return added end
    return 1
  end
  if args[7] == '1' then redis.call('XTRIM', log, 'MINID', '=', at) end
  if redis.call('PTTL', log) < 0 then
    local deadline, ttl_s = fields(id, 'deadline_ms', 'stream_ttl_s')
    local until_ms = number(deadline, now_ms()) + stream_ttl_ms(ttl_s, tonumber(args[6]))
    redis.call('PEXPIREAT', log, until_ms)
  end
  redis.call('PUBLISH', args[5], at .. ':' .. args[4])
  return 1
end

-- args: lease ms, then id and epoch of every job this worker runs
-- returns: now ms, then the ids it must stop, each followed by 'lost' or 'cancelled'
local function renew(_, args)
  local now = now_ms()
  local until_ms = now + tonumber(args[1])
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

-- keys: job; args: id, epoch, state, Celery meta, result ttl ms, attempts, '1' to list it as dead, and
-- what `book` takes if there is anything to book
-- returns: 'done', 'already' (this very epoch ended it), or 'stale'
local function finish(keys, args)
  local id, epoch, state = args[1], args[2], args[3]
  if not holds(id, epoch) then
    return fields(id, 'finished_epoch') == epoch and 'already' or 'stale'
  end
  local now = now_ms()
  redis.call('HSET', keys[1], 'attempts', args[6], 'finished_epoch', epoch)
  settle(id, state, args[4], tonumber(args[5]), now)
  if args[7] == '1' then bury(id, now, tonumber(args[5])) end
  -- Books that cannot be written do not keep a job from ending.
  if args[8] then pcall(book, now, unpack(args, 8)) end
  return 'done'
end

-- Ends a job that nobody runs: expired, exhausted, unreadable, or lost past recovery.
-- keys: job; args: id, epoch it was seen at, state, Celery meta, result ttl ms, '1' for dead
-- returns: 'done' or 'stale'
local function conclude(keys, args)
  local id, epoch = args[1], args[2]
  local state, current = fields(id, 'state', 'epoch')
  if not state or FINAL[state] or number(current, 0) ~= tonumber(epoch) then return 'stale' end
  local now = now_ms()
  if state == 'running' then
    local lease = redis.call('ZSCORE', LEASES, id)
    if lease and tonumber(lease) > now then return 'stale' end
  end
  settle(id, args[3], args[4], tonumber(args[5]), now)
  if args[6] == '1' then bury(id, now, tonumber(args[5])) end
  return 'done'
end

-- keys: job; args: id, by, Celery meta, result ttl ms, '1' to leave a running job alone
-- returns: 'cancelled' (it waited), 'cancelling' (its worker has been told), 'running' (left alone),
-- 'ended' (before this), or 'missing'
local function cancel(keys, args)
  local id = args[1]
  local state = redis.call('HGET', keys[1], 'state')
  if not state then return 'missing' end
  if FINAL[state] then return 'ended' end
  if state == 'running' and args[5] == '1' then return 'running' end
  redis.call('HSETNX', keys[1], 'cancel_by', args[2])
  if state == 'queued' then
    settle(id, 'cancelled', args[3], tonumber(args[4]), now_ms())
    -- For a worker to tell of, which had no hand in it. Agents' rights of an older release do not
    -- reach here, and then nobody tells.
    redis.pcall('LPUSH', WITHDRAWN, id)
    redis.pcall('LTRIM', WITHDRAWN, 0, MOST_WITHDRAWN - 1)
    redis.pcall('PEXPIRE', WITHDRAWN, args[4])
    return 'cancelled'
  end
  redis.call('PUBLISH', CANCEL_CHANNEL, id)
  return 'cancelling'
end

-- A worker that shuts down gives a job back. Counted as a loss only when a provider call was
-- under way, because only then can running it again bill twice.
-- keys: job; args: id, epoch, ended attempts as JSON, attempts begun, '1' when a call was under way
-- returns: 'queued' (announce it), 'stale', or what its holder must now end it as: 'cancelled'
-- (asked for meanwhile), 'lost' (its owner wants no rerun)
local function hand_back(keys, args)
  local id, epoch = args[1], args[2]
  if not holds(id, epoch) then
    local state, current = fields(id, 'state', 'epoch')
    return (state == 'queued' and current == epoch) and 'queued' or 'stale'
  end
  local loss, cancel_by = fields(id, 'on_worker_loss', 'cancel_by')
  local under_way = args[5] == '1'
  if cancel_by then return 'cancelled' end
  if under_way and loss == 'fail' then return 'lost' end
  redis.call('HSET', keys[1], 'attempts', args[3], 'attempts_begun', args[4], 'state', 'queued')
  redis.call('HDEL', keys[1], 'claim_token')
  if not under_way then redis.pcall('HINCRBY', keys[1], 'handbacks', 1) end
  enqueue(id, now_ms())
  return 'queued'
end

-- A guild has only so many calls under way at once; its further jobs are parked: back on the queue,
-- announced by whoever leaves. A slot whose holder has no lease any more was left behind by a loss.
local function enter(keys, args)
  local id, epoch, most, patience_ms = args[1], args[2], tonumber(args[3]), tonumber(args[4])
  local running, parked, job = keys[1], keys[2], keys[3]
  if not holds(id, epoch) then return 'stale' end
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
  -- Until it first calls a provider it waits, whoever looked at it meanwhile.
  if redis.pcall('HINCRBY', job, 'attempts_begun', -1) == 0 then redis.call('HDEL', job, 'started_ms') end
  -- Ahead of time, so that the reaper does not announce it before it is late.
  enqueue(id, now + patience_ms)
  redis.call('ZADD', parked, number(created, now), id)
  if redis.call('PTTL', parked) < keep_ms then redis.call('PEXPIRE', parked, keep_ms) end
  return 'parked'
end

-- keys: the guild's running jobs, its parked ones; args: id, most at once
-- returns: the parked jobs there is room for now, the oldest first: announce them
local function leave(keys, args)
  redis.call('SREM', keys[1], args[1])
  local now, ids = now_ms(), {}
  local room = tonumber(args[2]) - redis.call('SCARD', keys[1])
  while #ids < room do
    local id = redis.call('ZPOPMIN', keys[2])[1]
    if not id then break end
    if fields(id, 'state') == 'queued' then
      redis.call('ZADD', queued_beside(id), 'XX', now, id)
      ids[#ids + 1] = id
    end
  end
  return ids
end

-- A Redis that froze or was away let every lease run out, though their workers live, and a reap
-- that waited in a socket's buffer is the first thing it does: so leases are reaped only while the
-- sender's own renewal is so young that everybody else's lease still stands.
-- args: when the sender last renewed (this clock, ms), how long ago that may be, most jobs a call
-- returns: verdict and id in turn: 'requeued' (announce it), 'cancelled', 'lost', 'expired'
-- (conclude it), 'withdrawn' (tell of it: it was cancelled while it waited)
local function reap(_, args)
  local now, most, found = now_ms(), args[3], {}
  local run_out = {}
  if now - tonumber(args[1]) <= tonumber(args[2]) then
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
      enqueue(id, now)
      add('requeued', id)
    end
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', now, 'LIMIT', 0, most)) do
    local state = fields(id, 'state')
    if state == 'queued' then add('expired', id)
    -- A running job ends at its deadline by its worker's hand; its lease covers the rest.
    elseif state ~= 'running' then redis.call('ZREM', DEADLINES, id) end
  end
  for _, id in ipairs(redis.call('LRANGE', WITHDRAWN, 0, most - 1)) do
    -- Whoever may cancel can write to the list: a job is told of once, and only if it is true.
    if fields(id, 'state') == 'cancelled' and redis.call('HSETNX', job_key(id), 'told', 1) == 1 then
      add('withdrawn', id)
    end
  end
  redis.call('LTRIM', WITHDRAWN, most, -1)
  return found
end

-- The time the oldest of the waiting messages was sent; false when none of those looked at is
-- of a waiting job, and `none` when no message waits.
local function oldest_announced(index, list, none)
  local tail = redis.call('LRANGE', list, -16, -1)
  if #tail == 0 then return none end
  for i = #tail, 1, -1 do
    local ok, message = pcall(cjson.decode, tail[i])
    local headers = ok and type(message) == 'table' and message.headers
    local id = type(headers) == 'table' and headers.id
    local announced = type(id) == 'string' and redis.call('ZSCORE', index, id)
    if announced then return tonumber(announced) end
  end
  return false
end

-- Jobs whose wake-up was lost: sent before that of the oldest message that still waits (on a
-- deep queue a job merely waits), or, when no message waits, longer ago than the patience.
-- keys: queued index, Celery's list; args: patience ms, most; returns: ids to announce again
local function unannounced(keys, args)
  local now = now_ms()
  local oldest = oldest_announced(keys[1], keys[2], now)
  if not oldest then return {} end
  local horizon = math.min(oldest, now) - tonumber(args[1])
  local ids = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys[1], '-inf', horizon, 'LIMIT', 0, args[2])) do
    if fields(id, 'state') == 'queued' then
      redis.call('ZADD', keys[1], now, id)
      ids[#ids + 1] = id
    else
      redis.call('ZREM', keys[1], id)
    end
  end
  return ids
end

-- A dead job starts anew under its own id. keys: job; args: id, record ttl ms; returns 1 or 0
local function replay(keys, args)
  local id = args[1]
  local state, timeout_ms, request = fields(id, 'state', 'timeout_ms', 'request')
  if not (state and FINAL[state] and request) then return 0 end
  local now = now_ms()
  redis.call('HSET', keys[1], 'state', 'queued', 'created_ms', now, 'deadline_ms', now + timeout_ms,
    'handbacks', redis.call('HGET', keys[1], 'epoch'), 'attempts', '[]', 'attempts_begun', 0)
  redis.call('HDEL', keys[1], 'cancel_by', 'started_ms', 'ended_ms', 'claim_token', 'claimed_ms',
    'finished_epoch', 'told')
  redis.call('PEXPIRE', keys[1], timeout_ms + args[2])
  redis.call('DEL', result_key(id), log_key(id))
  redis.call('ZREM', DEAD, id)
  redis.call('ZADD', DEADLINES, now + timeout_ms, id)
  enqueue(id, now)
  return 1
end

-- A dead job is forgotten, and what is left of it. keys: job; args: id; returns 1 or 0
local function drop(keys, args)
  local id = args[1]
  local listed = redis.call('ZREM', DEAD, id)
  if not FINAL[fields(id, 'state') or ''] then return listed end
  return redis.call('DEL', keys[1], result_key(id), log_key(id)) > 0 and 1 or listed
end

redis.register_function('LIB_submit', submit)
redis.register_function('LIB_replay', replay)
-- Only these may fail for want of memory: every other step ends or frees something, and an
-- answer does not need its stream.
redis.register_function('LIB_emit', emit)

local function register(name, body)
  redis.register_function{function_name = 'LIB_' .. name, callback = body, flags = {'allow-oom'}}
end
register('claim', claim)
register('begin_attempt', begin_attempt)
register('renew', renew)
register('finish', finish)
register('conclude', conclude)
register('cancel', cancel)
register('hand_back', hand_back)
register('enter', enter)
register('leave', leave)
register('reap', reap)
register('drop', drop)
register('unannounced', unannounced)
