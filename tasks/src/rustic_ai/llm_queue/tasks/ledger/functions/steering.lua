-- What operators do with limits and budgets: close and open all limits of a name, raise or lower budgets.

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

-- An operator sets budgets to another amount for as long as their period lasts, and those who wait are looked at.
-- cap: in nanodollars or tokens, '' for the policy's; then the ids; returns: how many of them there are
local function set_budgets(_, args)
  local cap = args[1]
  local now, found = now_us(), 0
  for i = 2, #args do
    local key = BUDGET_PREFIX .. args[i]
    if redis.call('EXISTS', key) == 1 then
      found = found + 1
      if cap == '' then redis.call('HDEL', key, 'cap') else redis.call('HSET', key, 'cap', cap) end
      if redis.call('EXISTS', WAITING_PREFIX .. args[i]) == 1 then set_alarm(args[i], now, 'CH') end
    end
  end
  return found
end
register('set_budgets', set_budgets)

-- What budgets have spent is set anew, from the books. args: id and amount of each; returns: how many there are
local function spend_budgets(_, args)
  local first = args[1]
  local found = 0
  for i = 1, first and #args or 0, 2 do
    local key = BUDGET_PREFIX .. args[i]
    if redis.call('EXISTS', key) == 1 then
      found = found + 1
      redis.call('HSET', key, 'spent', args[i + 1])
      redis.call('HDEL', key, 'doubtful', 'overshoot')
    end
  end
  return found
end
register('spend_budgets', spend_budgets)
