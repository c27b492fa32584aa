-- A job's stream: its log of frames, and their publication.
local function stream_ttl_ms(given_s, otherwise_ms)
  local seconds = tonumber(given_s or '')
  return seconds and seconds > 0 and seconds < 2^31 and math.ceil(seconds * 1000) or otherwise_ms
end

-- A stream ends in the same step as its job. A key that is no log any more must not keep the job
-- from ending: the log is begun anew.
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
  redis.call('PUBLISH', FRAMES_PREFIX .. id, at .. ':' .. frame)
end

-- keys: job, log; all_before_is_void: '1' or '0'
-- returns: 1, or 0 when another claim has the job
local function emit(keys, args)
  local id, epoch, sequence, frame, channel, result_ttl_ms, all_before_is_void = unpack(args)
  local log = keys[2]
  if not holds(id, epoch) then return 0 end
  local at = epoch .. '-' .. sequence
  local added = redis.pcall('XADD', log, at, 'frame', frame)
  if type(added) == 'table' then
    -- Sent again because the reply was lost: it is in the log and was published.
    if #redis.call('XRANGE', log, at, at) == 0 then return added end
    return 1
  end
  if all_before_is_void == '1' then redis.call('XTRIM', log, 'MINID', '=', at) end
  if redis.call('PTTL', log) < 0 then
    local deadline, ttl_s = fields(id, 'deadline_ms', 'stream_ttl_s')
    local until_ms = number(deadline, now_ms()) + stream_ttl_ms(ttl_s, tonumber(result_ttl_ms))
    redis.call('PEXPIREAT', log, until_ms)
  end
  redis.call('PUBLISH', channel, at .. ':' .. frame)
  return 1
end
register_growing('emit', emit)
