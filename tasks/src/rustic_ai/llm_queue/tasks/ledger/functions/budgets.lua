-- Budgets: money, or tokens, that calls may take in a period. A call holds what it may take before it is made;
-- what it took is spent, and the rest given back, in the step that ends it. Amounts are whole numbers.
--
-- A budget's key is of one period: nothing has to be reset. It outlives the period, so that what was spent can
-- be looked up.
local NEVER = 2^52

-- Whether others wait in front of a job at a limit or a budget. step: of `pass`
local function is_behind(id, limit_id, step)
  if not step.lines then return false end
  local first, order = unpack(redis.call('ZRANGE', WAITING_PREFIX .. limit_id, 0, 0, 'WITHSCORES'))
  return first and first ~= id and tonumber(order) <= step.order
end

-- One table and a block: Lua allows a chunk 200 local names at once.
local Budget = {WAITS = 0, REFUSES = 1, WARNS = 2}
-- A job for which the budget has no room this period, whatever other calls give back, waits behind the others.
Budget.BEHIND = 2^51
Budget.WORDS = 8
do
local BUDGET_KEPT_MS = 35 * 86400000
local MOST_ALERTS_KEPT = 1000

-- Of the words by which the worker names a budget, those after its unit. It takes nothing of a limit's rates.
function Budget.of(id, unit, words, from)
  return {
    id = id, unit = unit, hold = tonumber(words[from + 1]), cap = tonumber(words[from + 2]),
    ends_ms = tonumber(words[from + 3]), mode = tonumber(words[from + 4]), alerts = words[from + 5],
    -- What a token of a model without a price takes, in nanodollars.
    token_nano = tonumber(words[from + 6]),
    request_us = 0, token_us = 0, tokens = 0, output_us = 0, outputs = 0, most_running = 0,
  }
end

local function budget_key(id) return BUDGET_PREFIX .. id end
local function hold_field(budget) return 'b:' .. budget.id end
-- For JSON: Redis itself writes whole numbers out in full.
local function digits(number) return string.format('%.0f', number) end

function Budget.ends_us(budget) return budget.ends_ms > 0 and budget.ends_ms * 1000 or NEVER - 1 end

local function read_budget(budget)
  local spent, held, cap, limit = unpack(redis.call('HMGET', budget_key(budget.id), 'spent', 'held', 'cap', 'limit'))
  budget.is_new, budget.known = not held, tonumber(limit)
  budget.spent, budget.held = tonumber(spent or 0), tonumber(held or 0)
  -- What an operator has set stands for the period.
  budget.limit = tonumber(cap or budget.cap)
end

local function keep_budget(budget, now)
  local key, now_in_ms = budget_key(budget.id), math.floor(now / 1000)
  if budget.known ~= budget.cap then
    redis.call('HSET', key, 'limit', budget.cap, 'ends_ms', budget.ends_ms, 'unit', budget.unit)
  end
  if budget.is_new or budget.ends_ms == 0 then
    redis.call('PEXPIRE', key, math.max(budget.ends_ms - now_in_ms, 0) + BUDGET_KEPT_MS)
    redis.call('ZADD', BUDGETS, now_in_ms, budget.id)
    redis.call('PEXPIRE', BUDGETS, BUDGET_KEPT_MS)
  end
end

-- Takes what the job's next call may take, if there is room; else returns when there is: `NEVER` where other
-- calls' ends decide it, else the end of the period.
-- step: of `pass`; what is taken is added to its `holds`, for the caller to keep with the job
function Budget.hold(id, budget, step)
  local now = step.now
  if Budget.ends_us(budget) <= now then return end
  read_budget(budget)
  if budget.mode ~= Budget.WARNS then
    if budget.spent + budget.hold > budget.limit then return Budget.ends_us(budget) end
    if is_behind(id, budget.id, step) then return NEVER end
    if budget.spent + budget.held + budget.hold > budget.limit then return NEVER end
  end
  step.holds[#step.holds + 1], step.holds[#step.holds + 2] = hold_field(budget), budget.hold
  budget.held = budget.held + budget.hold
  redis.call('HSET', budget_key(budget.id), 'held', budget.held)
  keep_budget(budget, now)
end

local function alert(budget, before, after, limit)
  for word in string.gmatch(budget.alerts, '%d+') do
    local percent = tonumber(word)
    local at = limit * percent / 100
    if before < at and after >= at
      and redis.call('HSETNX', budget_key(budget.id), 'alert:' .. percent, 1) == 1 then
      redis.call('LPUSH', ALERTS, cjson.encode({budget = budget.id, percent = percent, unit = budget.unit,
        spent = digits(after), limit = digits(limit), ends_ms = digits(budget.ends_ms)}))
      redis.call('LTRIM', ALERTS, 0, MOST_ALERTS_KEPT - 1)
      redis.call('PEXPIRE', ALERTS, BUDGET_KEPT_MS)
    end
  end
end

-- What a job holds of each budget among the first `count` of its limits, by the budget's id.
function Budget.held_by(id, limits, count)
  local ids, names, found = {}, {}, {}
  for i = 1, count do
    if limits[i].cap then ids[#ids + 1], names[#names + 1] = limits[i].id, hold_field(limits[i]) end
  end
  if #ids == 0 then return found end
  local holds = redis.call('HMGET', HELD_PREFIX .. id, unpack(names))
  for i, limit_id in ipairs(ids) do found[limit_id] = holds[i] and tonumber(holds[i]) end
  return found
end

-- Gives back what a job holds of a budget, and spends what its call took.
-- used: false where no call was made, nil where nothing is known; `lost`: a call of a lost worker, which counts
-- whole, for its provider may have billed it
-- mine: what it holds, as `Budget.held_by` found it
function Budget.settle(budget, mine, used)
  local key = budget_key(budget.id)
  local spent, held, cap, jobs, doubtful, overshoot =
    unpack(redis.call('HMGET', key, 'spent', 'held', 'cap', 'jobs', 'doubtful', 'overshoot'))
  if not mine or not held then return end
  spent = tonumber(spent or 0)
  local took, values = 0, {'held', math.max(tonumber(held) - mine, 0)}
  local function put(name, value) values[#values + 1], values[#values + 2] = name, value end
  if used and used.lost then
    took = mine
    put('doubtful', tonumber(doubtful or 0) + took)
  elseif used then
    local tokens = used[1] + used[2]
    took = budget.unit == 'tokens' and tokens or used.nano or math.ceil(tokens * budget.token_nano)
    if not (took >= 0 and took < NEVER) then took = 0 end
    if took > mine then put('overshoot', tonumber(overshoot or 0) + took - mine) end
  end
  if used ~= false then
    put('spent', spent + took)
    put('jobs', tonumber(jobs or 0) + 1)
  end
  redis.call('HSET', key, unpack(values))
  if took > 0 then alert(budget, spent, spent + took, tonumber(cap or budget.cap)) end
end

-- For the worker: spent, held and limit of each budget among a call's limits, in their order.
function Budget.states(limits)
  local states = {}
  for _, one in ipairs(limits) do
    if one.cap then
      if not one.limit then read_budget(one) end
      for _, value in ipairs({one.spent, one.held, one.limit}) do states[#states + 1] = value end
    end
  end
  return states
end
end
