-- How a job comes in, once however often it is sent.
local function same_request(known, given)
  for fingerprint in string.gmatch(given, '[^,]+') do
    if string.find(',' .. known .. ',', ',' .. fingerprint .. ',', 1, true) then return true end
  end
  return false
end

-- keys: job, [idempotency key]; list: Celery's, which takes the wake-up; then the record's fields
-- returns: {'created' | 'exists' | 'conflict', job id}
local function submit(keys, args)
  local id, fingerprints, timeout_ms, record_ttl_ms, idempotency_ttl_ms, list, wakeup = unpack(args, 1, 7)
  list = TAG .. list
  local known = redis.call('HGET', keys[1], 'fingerprints')
  if known then
    return {same_request(known, fingerprints) and 'exists' or 'conflict', id}
  end
  local now = now_ms()
  if keys[2] then
    local first = redis.call('HMGET', keys[2], 'id', 'fingerprints')
    local state = first[1] and fields(first[1], 'state')
    -- A cancelled job has no answer that the key could stand for: its caller may have been informed that
    -- Redis is away.
    if state and state ~= 'cancelled' then
      return {same_request(first[2], fingerprints) and 'exists' or 'conflict', first[1]}
    end
    redis.call('HSET', keys[2], 'id', id, 'fingerprints', fingerprints)
    redis.call('PEXPIRE', keys[2], idempotency_ttl_ms)
    redis.call('HSET', keys[1], 'keep_until_ms', now + idempotency_ttl_ms)
  end
  redis.call('HSET', keys[1], 'state', 'queued', 'created_ms', now,
    'deadline_ms', now + timeout_ms, 'epoch', 0, 'attempts_begun', 0, 'handbacks', 0, unpack(args, 8))
  redis.call('PEXPIRE', keys[1], timeout_ms + record_ttl_ms)
  redis.call('ZADD', DEADLINES, now + timeout_ms, id)
  if waits_its_turn(id, fields(id, 'queue') or '', list) then
    redis.call('ZADD', queued_beside(id), UNANNOUNCED + now, id)
    return {'created', id}
  end
  redis.call('ZADD', queued_beside(id), now, id)
  -- Where something else was put in the list's place, the job is announced once that is gone.
  redis.pcall('LPUSH', list, wakeup)
  return {'created', id}
end
register_growing('submit', submit)
