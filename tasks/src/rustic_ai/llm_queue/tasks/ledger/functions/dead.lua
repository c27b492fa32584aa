-- Dead jobs: those that ended because no attempt was left.

-- A dead job starts anew under its own id, announced or in turn. keys: job; returns 1 or 0
local function replay(keys, args)
  local id, record_ttl_ms = unpack(args)
  local state, timeout_ms, request = fields(id, 'state', 'timeout_ms', 'request')
  if not (state and FINAL[state] and request) then return 0 end
  local now = now_ms()
  redis.call('HSET', keys[1], 'state', 'queued', 'created_ms', now, 'deadline_ms', now + timeout_ms,
    'handbacks', redis.call('HGET', keys[1], 'epoch'), 'attempts', '[]', 'attempts_begun', 0)
  redis.call('HDEL', keys[1], 'cancel_by', 'started_ms', 'ended_ms', 'claim_token', 'claimed_ms',
    'finished_epoch', 'told', 'lifted_ms', 'limited_ms', 'limited_by', 'limited_since_ms',
    'waits_for', 'ahead', 'starts_at_ms', 'paused_until_ms', 'flight', 'flight_shared')
  redis.call('PEXPIRE', keys[1], timeout_ms + record_ttl_ms)
  redis.call('DEL', result_key(id), log_key(id))
  redis.call('ZREM', DEAD, id)
  redis.call('ZADD', DEADLINES, now + timeout_ms, id)
  local queue, priority = fields(id, 'queue', 'priority')
  -- To the others it is a job like any that comes now.
  if waits_its_turn(id, queue or '', message_list(queue or '', priority or '0')) then enqueue(id, UNANNOUNCED + now)
  else announce_last(id, now) end
  return 1
end
register_growing('replay', replay)

-- Forgets a dead job and all that is left of it. keys: job; returns 1 or 0
local function drop(keys, args)
  local id = args[1]
  local listed = redis.call('ZREM', DEAD, id)
  if not FINAL[fields(id, 'state') or ''] then return listed end
  return redis.call('DEL', keys[1], result_key(id), log_key(id)) > 0 and 1 or listed
end
register('drop', drop)
