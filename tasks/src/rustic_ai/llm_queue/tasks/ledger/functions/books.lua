-- The books of a day: per organisation a hash of sums by guild, agent and model. Tenants choose these
-- names, so their number is bounded: rows beyond it are booked under "other", and the sums stay exact.
-- Lua allows a chunk 200 local names at once: all but these two are the block's own.
local book, book_flow
do
local DAY_MS, MOST_ROWS, MOST_ROWS_OF_ONE, MOST_ORGS = 86400000, 20000, 10000, 500
local OTHER, OTHER_ROW = 'other', '["other","other","other"]'
-- The throughput of each minute, by model, for dashboards: kept for a quarter of an hour.
local MOST_MODELS, MINUTES_KEPT_MS = 200, 900000

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

local function book_minute(minute, model, pico_usd, tokens)
  local key = MINUTE_PREFIX .. minute
  if redis.call('HEXISTS', key, 'jobs ' .. model) == 0 and redis.call('HLEN', key) >= 3 * MOST_MODELS then
    model = OTHER
  end
  redis.call('HINCRBY', key, 'jobs ' .. model, 1)
  redis.call('HINCRBY', key, 'tokens ' .. model, tokens)
  redis.call('HINCRBY', key, 'pico_usd ' .. model, pico_usd == '' and 0 or pico_usd)
  redis.call('PEXPIRE', key, MINUTES_KEPT_MS)
end

-- Of each guild and minute: the tokens of the jobs that ended, and how long they had waited for a worker, as a
-- histogram whose buckets grow by a fifth (`wait_bucket`). Waits for limits are not among them.
local MOST_GUILDS_A_MINUTE = 1000
local function wait_bucket(ms) return ms < 1 and 0 or math.floor(math.log(ms) / math.log(2) * 4) + 1 end

function book_flow(now, id, org, guild, tokens)
  local key = FLOW_MINUTE_PREFIX .. math.floor(now / 60000)
  local created, started, limited = fields(id, 'created_ms', 'started_ms', 'limited_ms')
  local flow = cjson.encode({org, guild})
  local first = redis.call('HINCRBY', key, 'tokens ' .. flow, tokens) == tokens
  if first and redis.call('HLEN', key) > 4 * MOST_GUILDS_A_MINUTE then
    redis.call('HDEL', key, 'tokens ' .. flow)
    flow = '["other","other"]'
    redis.call('HINCRBY', key, 'tokens ' .. flow, tokens)
  end
  if started then
    local waited_ms = math.max(number(started, 0) - number(created, 0) - number(limited, 0), 0)
    redis.call('HINCRBY', key, 'wait:' .. wait_bucket(waited_ms) .. ' ' .. flow, 1)
  end
  if first then redis.call('PEXPIRE', key, MINUTES_KEPT_MS) end
end

-- pico_usd: '' where the model has no price; kind: '' for a completion, with ' own' behind it where the job named
-- its endpoint itself; cached: 1 for a job that made no call of
-- its own, else 0; saved_pico_usd: what others had paid for all or a part of it
function book(
    now, org, guild, agent, model, pico_usd, prompt_tokens, completion_tokens, ttl_ms, kind, cached, saved_pico_usd)
  local day = math.floor(now / DAY_MS)
  local index = COSTS_PREFIX .. day
  local key, row = row_for(index, org, cjson.encode({guild, agent, model, kind ~= '' and kind or nil}))
  redis.call('HINCRBY', key, 'jobs ' .. row, 1)
  redis.call('HINCRBY', key, 'prompt_tokens ' .. row, prompt_tokens)
  redis.call('HINCRBY', key, 'completion_tokens ' .. row, completion_tokens)
  if pico_usd == '' then redis.call('HINCRBY', key, 'unpriced ' .. row, 1)
  else redis.call('HINCRBY', key, 'pico_usd ' .. row, pico_usd) end
  if cached == '1' then redis.call('HINCRBY', key, 'cached ' .. row, 1) end
  if saved_pico_usd ~= '0' then redis.call('HINCRBY', key, 'saved_pico_usd ' .. row, saved_pico_usd) end
  for _, one in ipairs({index, key}) do
    redis.call('PEXPIREAT', one, (day + 1) * DAY_MS + tonumber(ttl_ms))
  end
  -- What a tenant's own server claims is no throughput of ours.
  if string.sub(kind, -4) == ' own' then return end
  book_minute(math.floor(now / 60000), model, pico_usd, prompt_tokens + completion_tokens)
end
end
