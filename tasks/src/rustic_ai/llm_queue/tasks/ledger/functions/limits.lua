-- Limits: what a job must pass before each of its provider calls, and what it holds of them meanwhile.
--
-- Each rate is one number, the "theoretical arrival time" (TAT) of GCRA in µs: a job of cost c moves it
-- c emission intervals on, and has room while it is at most the burst ahead of the clock. A limit that
-- nobody uses is the same as no key. Calls at once are a set of job ids, so giving a place back twice
-- does no harm.
--
-- A job passes its limits one after the other in the order it names them, narrow ones first, and keeps
-- what it has passed while it waits for the next: whatever waits holds only its own narrow share.
-- A bucket is never further ahead than its burst and this: what a jump of the clock can cost.
local MOST_AHEAD_US = 120000000
local KEPT_IDLE_MS = 120000
local PROBE_US = 5000000
-- Jobs that one step may start; the rest follow with the next tick.
local MOST_STARTED = 4
local DAY_IN_MS = 86400000
local PAUSES_KEPT_MS = 366 * DAY_IN_MS

local NUMBERS = {'request_us', 'request_burst_us', 'token_us', 'token_burst_us', 'tokens',
  'output_us', 'output_burst_us', 'outputs', 'most_running'}
local WORDS_A_LIMIT = #NUMBERS + 2

-- Limits as the worker names them: id, 'all' or 'input' for the tokens that count, then the numbers. A budget
-- stands among them, with its unit, 'usd' or 'tokens', in the place of the tokens that count.
local function limits_of(words)
  local limits, at = {}, 1
  while at <= #words do
    local id, counts = words[at], words[at + 1]
    if counts == 'usd' or counts == 'tokens' then
      limits[#limits + 1] = Budget.of(id, counts, words, at + 1)
      at = at + Budget.WORDS
    else
      local limit = {id = id, counts = counts}
      for i, name in ipairs(NUMBERS) do limit[name] = tonumber(words[at + 1 + i]) or 0 end
      limits[#limits + 1] = limit
      at = at + WORDS_A_LIMIT
    end
  end
  return limits
end

local function words_of(text)
  local words = {}
  for word in string.gmatch(text or '', '%S+') do words[#words + 1] = word end
  return words
end

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

-- What a job holds is kept beside its record, which agents may write to: `limits` as the worker named them,
-- `passed` how many of them it holds, `waits_for` and `waits_since_ms`, `granted_ms` when the ledger granted
-- the rest while it waited, `admitted` the number of the call they are for.
local function held_key(id) return HELD_PREFIX .. id end
local function held(id, ...) return unpack(redis.call('HMGET', held_key(id), ...)) end

local function whole(us) return string.format('%.0f', us) end

-- A bucket with `add` µs taken from it: its TAT then, and the time at which there is room for that.
-- More than the bucket holds is taken when it is full, and leaves a debt.
local function taken(tat, now, add, burst)
  tat = math.min(math.max(tonumber(tat or 0), now), now + burst + MOST_AHEAD_US)
  return tat + add, add > burst and tat or tat + add - burst
end

-- When a limit's closing ends for this job: a limit that reopens lets one job probe it first.
local function opens(id, now, closed_until, failures, probe, probe_until)
  if closed_until > now then return closed_until end
  if failures > 0 and probe and probe ~= id and probe_until > now then return probe_until end
  return now
end

-- The time until which an operator has paused limits of this one's name.
local function paused_until(limit)
  local until_us = redis.call('HGET', PAUSES, string.match(limit.id, '^[^:]*'))
  return tonumber(until_us or 0)
end

local function remember(limit, now)
  redis.call('ZADD', LIMITS, math.floor(now / 1000), limit.id)
  redis.call('PEXPIRE', LIMITS, DAY_IN_MS)
end

-- At `at` the first job that waits for the limit is looked at. how: 'CH' whatever was set before, 'LT' only
-- if it is sooner, 'NX' only if there is none.
local function set_alarm(limit_id, at, how)
  redis.call('ZADD', ALARMS, how, whole(at), limit_id)
  redis.call('PEXPIRE', ALARMS, DAY_IN_MS)
end

-- Keeps a key for at least so long. GT leaves a key without an end alone, so the first one sets it.
local function keep(key, ms, is_new)
  if is_new then redis.call('PEXPIRE', key, ms) else redis.call('PEXPIRE', key, ms, 'GT') end
end

-- Takes what one limit gives this job, if there is room now; else returns when there is.
local function pass_one(id, limit, step)
  if limit.cap then return Budget.hold(id, limit, step) end
  local key, now = LIMIT_PREFIX .. limit.id, step.now
  local r, t, o, closed, failures, probe, probe_until =
    unpack(redis.call('HMGET', key, 'r', 't', 'o', 'u', 'k', 'probe', 'probe_until'))
  failures = tonumber(failures or 0)
  local at = opens(id, now, tonumber(closed or 0), failures, probe, tonumber(probe_until or 0))
  if step.pauses then at = math.max(at, paused_until(limit)) end
  local first, values, latest = not (r or t or o), {}, now
  local function take(name, tat, cost, emission, burst)
    if emission <= 0 or cost <= 0 then return end
    local later, room = taken(tat, now, math.ceil(cost * emission), burst)
    at, latest = math.max(at, room), math.max(latest, later)
    values[#values + 1], values[#values + 2] = name, whole(later)
  end
  take('r', r, 1, limit.request_us, limit.request_burst_us)
  take('t', t, limit.tokens, limit.token_us, limit.token_burst_us)
  take('o', o, limit.outputs, limit.output_us, limit.output_burst_us)
  if at > now then return at end
  if is_behind(id, limit.id, step) then return NEVER end
  local inside = RUNNING_PREFIX .. limit.id
  if limit.most_running > 0 then
    local running = redis.call('ZCARD', inside)
    if running >= limit.most_running and not redis.call('ZSCORE', inside, id) then return NEVER end
    redis.call('ZADD', inside, math.floor(now / 1000), id)
    keep(inside, step.keep_ms, running == 0)
  end
  if failures > 0 then
    values[#values + 1], values[#values + 2] = 'probe', id
    values[#values + 1], values[#values + 2] = 'probe_until', whole(now + PROBE_US)
  end
  if #values > 0 then
    redis.call('HSET', key, unpack(values))
    redis.call('PEXPIRE', key, math.ceil((latest - now) / 1000) + KEPT_IDLE_MS)
  end
  if first then remember(limit, now) end
end

-- Whether jobs wait for one of these limits: most often none does, and one look is enough.
local function any_waits(ids)
  local lines = {}
  for i, limit_id in ipairs(ids) do lines[i] = WAITING_PREFIX .. limit_id end
  return #lines > 0 and redis.call('EXISTS', unpack(lines)) > 0
end

-- Passes the limits from the `from`-th on. Returns nothing when the job is through, else the index of
-- the limit it must wait at, and when that has room as far as time alone decides it.
local function pass(id, limits, from, order, now, keep_ms)
  if from > #limits then return end
  local ids, stop, at = {}
  for i = from, #limits do ids[#ids + 1] = limits[i].id end
  local step = {order = order, now = now, keep_ms = keep_ms, pauses = redis.call('EXISTS', PAUSES) == 1,
    lines = any_waits(ids), holds = {}}
  for i = from, #limits do
    at = pass_one(id, limits[i], step)
    if at then
      stop = i
      break
    end
  end
  if #step.holds > 0 then redis.call('HSET', held_key(id), unpack(step.holds)) end
  return stop, at
end

-- For the job's status: what it waits for, after how many others, and about when its turn is. Where
-- calls at once are all that the limit has, only their ends decide that, and the time is 0.
local function show_wait(id, limit, at, now)
  local waiting = WAITING_PREFIX .. limit.id
  local order = redis.call('ZSCORE', waiting, id)
  local ahead = order and redis.call('ZCOUNT', waiting, '-inf', '(' .. order) or 0
  local each = math.max(limit.request_us, limit.token_us * limit.tokens, limit.output_us * limit.outputs)
  local starts_at = 0
  if at < NEVER or each > 0 then starts_at = math.ceil(((at < NEVER and at or now) + ahead * each) / 1000) end
  redis.call('HSET', job_key(id), 'waits_for', limit.id, 'limited_by', limit.id, 'ahead', ahead,
    'starts_at_ms', starts_at)
end

local function note_waited(id, now_in_ms)
  local since = held(id, 'waits_since_ms')
  redis.pcall('HINCRBY', job_key(id), 'limited_ms', now_in_ms - number(since, now_in_ms))
  redis.call('HDEL', job_key(id), 'waits_for', 'ahead', 'starts_at_ms')
end

-- A limit's next alarm: what time alone decides, and for a budget the end of its period.
local function next_alarm(limit, at)
  if limit.cap then return limit.ends_ms > 0 and Budget.ends_us(limit) or NEVER end
  return at
end

local function wait_at(id, limit, at, order, keep_ms, now)
  local waiting, alarm = WAITING_PREFIX .. limit.id, next_alarm(limit, at)
  if limit.cap and at < NEVER then order = order + Budget.BEHIND end
  redis.call('ZADD', waiting, order, id)
  keep(waiting, keep_ms, redis.call('PTTL', waiting) < 0)
  if alarm < NEVER then set_alarm(limit.id, alarm, 'LT') end
  remember(limit, now)
  redis.call('HSET', held_key(id), 'waits_for', limit.id)
  show_wait(id, limit, at, now)
end

-- A waiting job has passed all its limits.
local function start(id, passed, now_in_ms)
  note_waited(id, now_in_ms)
  redis.call('HSET', held_key(id), 'passed', passed, 'granted_ms', now_in_ms)
  redis.call('HDEL', held_key(id), 'waits_for', 'waits_since_ms')
  redis.call('ZREM', PAUSED, id)
end

local give_back

-- A job waits for a budget that will not have room before its deadline: it goes to a worker, who is then refused.
local function turn_away(id, budget_id, now)
  note_waited(id, math.floor(now / 1000))
  for _, freed in ipairs(give_back(id, false)) do
    if freed ~= budget_id and redis.call('EXISTS', WAITING_PREFIX .. freed) == 1 then set_alarm(freed, now, 'CH') end
  end
  redis.call('ZREM', PAUSED, id)
end

-- Lets the first job that waits for a limit take what it has.
-- returns: nothing when none waits, 'passed', 'started', or 'stopped' when there is no room
local function grant_first(limit_id, waiting, now)
  local id, score = unpack(redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES'))
  if not id then return end
  local order = tonumber(score) % Budget.BEHIND
  local state, deadline = fields(id, 'state', 'deadline_ms')
  local text, passed, waits_for = held(id, 'limits', 'passed', 'waits_for')
  if state ~= 'queued' or waits_for ~= limit_id then
    redis.call('ZREM', waiting, id)
    return 'passed', id
  end
  local limits, from, now_in_ms = limits_of(words_of(text)), number(passed, 0) + 1, math.floor(now / 1000)
  local keep_ms = math.max(number(deadline, 0) - now_in_ms, 0) + KEPT_IDLE_MS
  local stop, at = pass(id, limits, from, order, now, keep_ms)
  if stop == from and limits[stop].cap and at < NEVER and at / 1000 >= number(deadline, 0) then
    turn_away(id, limit_id, now)
    return 'started', id
  end
  if stop == from then
    local alarm = next_alarm(limits[stop], at)
    if alarm < NEVER then set_alarm(limit_id, alarm, 'CH') else redis.call('ZREM', ALARMS, limit_id) end
    show_wait(id, limits[stop], at, now)
    if not limits[stop].cap or at == NEVER or tonumber(score) >= Budget.BEHIND then return 'stopped', id end
    redis.call('ZADD', waiting, order + Budget.BEHIND, id)
    return 'passed', id
  end
  redis.call('ZREM', waiting, id)
  if stop then
    redis.call('HSET', held_key(id), 'passed', stop - 1)
    wait_at(id, limits[stop], at, order, keep_ms, now)
    return 'passed', id
  end
  start(id, #limits, now_in_ms)
  return 'started', id
end

-- A limit has room: its first waiting jobs take it, at most `most` of them, and are put on the queue
-- ahead of those that come now.
local function grant(limit_id, now, most)
  local waiting, started, what, id = WAITING_PREFIX .. limit_id, {}
  for _ = 1, most do
    what, id = grant_first(limit_id, waiting, now)
    if what == 'started' then started[#started + 1] = id end
    if what == 'stopped' or not what then break end
  end
  -- The last that is put first goes first.
  for i = #started, 1, -1 do announce_first(started[i], math.floor(now / 1000)) end
  if redis.call('EXISTS', waiting) == 0 then redis.call('ZREM', ALARMS, limit_id)
  elseif what ~= 'stopped' then set_alarm(limit_id, now, 'CH') end
end

-- A call whose worker was lost: nothing is known of it.
local LOST = {lost = true}

-- Puts right what one limit was charged: `used` is nil where nothing is known of the use, false where
-- no call was made, else {input tokens, output tokens, nano = its cost in nanodollars}.
local function settle_one(id, limit, used)
  local key = LIMIT_PREFIX .. limit.id
  local r, t, o, probe = unpack(redis.call('HMGET', key, 'r', 't', 'o', 'probe'))
  local values = {}
  local function move(name, tat, by)
    if tat and by ~= 0 then
      values[#values + 1], values[#values + 2] = name, whole(tonumber(tat) + by)
    end
  end
  if used == false then
    move('r', r, -math.ceil(limit.request_us))
    move('t', t, -math.ceil(limit.tokens * limit.token_us))
    move('o', o, -math.ceil(limit.outputs * limit.output_us))
  elseif used then
    local counted = limit.counts == 'input' and used[1] or used[1] + used[2]
    if limit.tokens > 0 then move('t', t, math.floor((counted - limit.tokens) * limit.token_us)) end
    if limit.outputs > 0 then move('o', o, math.floor((used[2] - limit.outputs) * limit.output_us)) end
  end
  if #values > 0 then redis.call('HSET', key, unpack(values)) end
  if probe == id then
    redis.call('HDEL', key, 'probe', 'probe_until')
    if used ~= false then
      -- A call went through: `cool` would have taken the probe away.
      redis.call('HDEL', key, 'k', 'u', 'why')
      redis.call('ZREM', CLOSED, limit.id)
    end
  end
end

-- Gives back what a job holds. `staying` names the limits whose places it keeps for its next attempt.
-- Returns the ids of the limits that may have room now, the widest last.
function give_back(id, used, staying)
  local text, passed, waits_for, admitted = held(id, 'limits', 'passed', 'waits_for', 'admitted')
  local freed = {}
  if not text then return freed end
  local spent = used
  if used and used.lost then
    used = nil
    if not admitted or admitted == '' then spent = false end
  end
  local limits = limits_of(words_of(text))
  local count = math.min(number(passed, 0), #limits)
  local holds = Budget.held_by(id, limits, count)
  for i = 1, count do
    local limit = limits[i]
    if limit.cap then Budget.settle(limit, holds[limit.id], spent) else settle_one(id, limit, used) end
    if limit.most_running > 0 and not (staying and staying[limit.id]) then
      redis.call('ZREM', RUNNING_PREFIX .. limit.id, id)
    end
    freed[#freed + 1] = limit.id
  end
  if waits_for then
    redis.call('ZREM', WAITING_PREFIX .. waits_for, id)
    if redis.call('EXISTS', WAITING_PREFIX .. waits_for) == 0 then redis.call('ZREM', ALARMS, waits_for) end
    freed[#freed + 1] = waits_for
  end
  redis.call('DEL', held_key(id))
  return freed
end

local function grant_all(freed, now)
  if not any_waits(freed) then return end
  for i = #freed, 1, -1 do
    if redis.call('EXISTS', WAITING_PREFIX .. freed[i]) == 1 then grant(freed[i], now, MOST_STARTED) end
  end
end

-- The tokens and cost of an ended call as the worker reports them: nothing where it does not know.
local function used_of(input, output, nano_usd)
  if input == nil or input == '' then return nil end
  return {tonumber(input), tonumber(output) or 0, nano = tonumber(nano_usd)}
end

-- What a job holds goes back in the very step that ends it or takes it from its worker.
local function release(id, used)
  local freed = give_back(id, used)
  if #freed > 0 then grant_all(freed, now_us()) end
end
