-- What operators do with limits: close and open all those of a name.

-- The limits of a name that are in use, at most so many: an operator's word is for all of them.
local MOST_NAMED = 10000
local function limits_named(name)
  local found = {}
  for _, limit_id in ipairs(redis.call('ZRANGE', LIMITS, 0, MOST_NAMED - 1)) do
    if string.match(limit_id, '^[^:]*') == name then found[#found + 1] = limit_id end
  end
  return found
end

-- An operator closes all limits of a name. until_us: '' for as long as it is not resumed; returns 1
local function pause_limit(_, args)
  local name, until_us = unpack(args)
  redis.call('HSET', PAUSES, name, until_us == '' and whole(NEVER) or until_us)
  redis.call('PEXPIRE', PAUSES, PAUSES_KEPT_MS)
  return 1
end
register('pause_limit', pause_limit)

-- Opens all limits of a name, whether an operator or a provider has closed them.
-- returns: how many of them were closed, or paused as one
local function resume_limit(_, args)
  local name = args[1]
  local now, opened = now_us(), redis.call('HDEL', PAUSES, name)
  for _, limit_id in ipairs(limits_named(name)) do
    if redis.call('HDEL', LIMIT_PREFIX .. limit_id, 'u', 'k', 'why', 'probe', 'probe_until') > 0 then
      opened = opened + 1
    end
    redis.call('ZREM', CLOSED, limit_id)
    if redis.call('EXISTS', WAITING_PREFIX .. limit_id) == 1 then set_alarm(limit_id, now, 'CH') end
  end
  return opened
end
register('resume_limit', resume_limit)
