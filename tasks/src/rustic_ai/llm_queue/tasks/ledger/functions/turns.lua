-- Fair share: whose job is next. Celery's list of a priority holds a short window of wake-ups; the jobs
-- beyond it wait in backlogs, one a guild, and come into the window in turn.
--
-- Start-time fair queueing over organisations, and within each over its guilds: a flow's tag is the
-- virtual time of its next job, moved on by the job's cost over the flow's weight. The least tag is next.
-- A job is charged what it is expected to take, and its flow's tag is corrected when it ends. So a flow's tag
-- is what its ended jobs took, and beside it what those under way are expected to take (`open:`).
-- A flow that comes back from idleness begins at the floor: what the flow served last had really taken. So
-- idleness earns no credit, and nobody is held to an expectation that proves too high. A lead it had is kept.
--
-- Agents put the ids of jobs beyond the window into one list, `arrivals`; the workers' steps sort them
-- in. While there is a backlog the list's oldest entry is a mark, so that a submit sees it.
local MARK = '-'
-- A submit sends its wake-up itself while no more than this wait, and nothing arrives or waits in turn.
local SHORTEST_WINDOW, USUAL_WINDOW = 16, 64
local MOST_SORTED, MOST_LATEST, MOST_MOVED, MOST_LOOKED_AT = 96, 32, 16, 64
local MOST_FLOWS, SHARED_FLOWS = 20000, 1024
-- A token of an answer costs about four of a prompt; before it is there, this many are reckoned with.
local OUTPUT_COST, EXPECTED_OUTPUT = 4, 256
local LEARNING = 0.2
local TURNS_KEPT_MS = 86400000
-- One wake-up in so many goes to the oldest job of the priorities below.
local TURNS_A_LIFT = 16
local BANDS = {'0', '3', '6', '9'}
local BAND_OF = {['0'] = 1, ['3'] = 2, ['6'] = 3, ['9'] = 4}

-- Whether a new job waits for its turn: there is a backlog, or its window is full. An agent whose rights are
-- those of an older release cannot look, and sends its wake-up itself.
local function waits_its_turn(id, queue, list)
  local arrivals = ARRIVALS_PREFIX .. queue
  local arrived = redis.pcall('LLEN', arrivals)
  if type(arrived) ~= 'number' then return false end
  local length = arrived == 0 and redis.pcall('LLEN', list) or SHORTEST_WINDOW
  if type(length) ~= 'number' or length < SHORTEST_WINDOW then return false end
  if type(redis.pcall('LPUSH', arrivals, id)) ~= 'number' then return false end
  redis.pcall('PEXPIRE', arrivals, TURNS_KEPT_MS)
  return true
end

local function arrivals_key(queue) return ARRIVALS_PREFIX .. queue end
local function flows_key(queue, priority) return FLOWS_PREFIX .. queue .. ':' .. priority end
local function vtime_key(queue, priority) return VTIME_PREFIX .. queue .. ':' .. priority end
local function backlog_key(queue, priority, guild) return BACKLOG_PREFIX .. queue .. ':' .. priority .. ':' .. guild end
local function keep_for_a_day(key) redis.call('PEXPIRE', key, TURNS_KEPT_MS) end

-- The flows of a job: those of its organisation and its guild, hashed, for names may be of any form.
local function flow_of(id)
  local owner_json = fields(id, 'owner')
  local known, owner = pcall(cjson.decode, owner_json or '')
  owner = known and type(owner) == 'table' and owner or {}
  local org = type(owner.org) == 'string' and owner.org or ''
  local guild = org .. '/' .. (type(owner.guild) == 'string' and owner.guild or '')
  return {org = string.sub(redis.sha1hex(org), 1, 16), guild = string.sub(redis.sha1hex(guild), 1, 16),
    org_name = org, guild_name = guild}
end

-- Tenants choose the names, so their number is bounded: flows beyond it share one with others.
local function bounded(flows, name)
  if redis.call('ZCARD', flows) < MOST_FLOWS or redis.call('ZSCORE', flows, name) then return name end
  return 'shared:' .. tonumber(string.sub(name, 1, 8), 16) % SHARED_FLOWS
end

-- A flow's tag, and whether it has jobs that wait in turn.
local function tag_of(flows, vtime, name, floor_name)
  local tag = redis.call('ZSCORE', flows, name)
  if tag then return tonumber(tag), true end
  local idle, floor = unpack(redis.call('HMGET', vtime, 'tag:' .. name, floor_name))
  return math.max(tonumber(idle or 0), tonumber(floor or 0)), false
end

-- What a flow's jobs under way are expected to take, over its weight.
local function open_of(vtime, name) return tonumber(redis.call('HGET', vtime, 'open:' .. name) or 0) end

local function move_open(vtime, name, by)
  local field = 'open:' .. name
  if by > 0 and redis.call('HLEN', vtime) > 4 * MOST_FLOWS then return end
  local open = open_of(vtime, name) + by
  if open > 0.001 then redis.call('HSET', vtime, field, open) else redis.call('HDEL', vtime, field) end
end

local function set_tag(flows, vtime, name, tag, waits)
  if waits then redis.call('ZADD', flows, tag, name)
  elseif redis.call('HLEN', vtime) < 2 * MOST_FLOWS then redis.call('HSET', vtime, 'tag:' .. name, tag) end
end

-- The costs of one token to the flows of a job.
local function prices_of(flow)
  local org_weight, guild_weight, usual = unpack(redis.call('HMGET', FAIR_SHARE,
    'weight:' .. flow.org_name, 'weight:' .. flow.guild_name, 'weight:*'))
  return 1 / tonumber(org_weight or usual or 1), 1 / tonumber(guild_weight or 1)
end

local function move_tags(queue, priority, org, guild, org_cost, guild_cost)
  local flows, vtime = flows_key(queue, priority), vtime_key(queue, priority)
  local function move(of, name, floor_name, cost)
    local tag, waits = tag_of(of, vtime, name, floor_name)
    set_tag(of, vtime, name, math.max(tag + cost, 0), waits)
  end
  move(flows, org, 'floor', org_cost)
  move(flows .. ':' .. org, guild, 'floor:' .. org, guild_cost)
  keep_for_a_day(vtime)
end

-- What a job will take: its prompt as estimated, and an answer as its guild's have been.
local function cost_of(id, vtime, guild)
  if redis.call('HGET', FAIR_SHARE, 'cost') == 'jobs' then return 1 end
  local answer = redis.call('HGET', vtime, 'answer:' .. guild)
  return number(fields(id, 'estimated_tokens'), 0) + tonumber(answer or OUTPUT_COST * EXPECTED_OUTPUT)
end

local function learn_answer(id, vtime, guild, used)
  local field = 'answer:' .. guild
  local known = tonumber(redis.call('HGET', vtime, field) or OUTPUT_COST * EXPECTED_OUTPUT)
  local answer = math.max(used - number(fields(id, 'estimated_tokens'), 0), 1)
  if redis.call('HLEN', vtime) < 3 * MOST_FLOWS then
    redis.call('HSET', vtime, field, known + LEARNING * (answer - known))
  end
end

-- A job that was charged does not run any more: its expectation goes, and `used` is charged in its place. Where
-- nothing is known of what it used, the expectation stands.
-- returns: where its guild's turns are kept, and the guild's flow; nothing when it was not charged
local function end_charge(id, queue, used)
  local charged = redis.call('GET', CHARGED_PREFIX .. id)
  if not charged then return end
  redis.call('DEL', CHARGED_PREFIX .. id)
  local cost, priority, org, guild, org_price, guild_price =
    string.match(charged, '^(%S+) (%d) (%S+) (%S+) (%S+) (%S+)$')
  if not cost then return end
  local vtime = vtime_key(queue, priority)
  move_open(vtime, org, -cost * org_price)
  move_open(vtime, guild, -cost * guild_price)
  if used then move_tags(queue, priority, org, guild, (used - cost) * org_price, (used - cost) * guild_price) end
  return vtime, guild
end

-- The job is taken from its flow's share; what was charged to whom stands beside, for the step that ends it.
local function charge(id, queue, priority, flow)
  end_charge(id, queue, 0)
  local vtime, org_price, guild_price = vtime_key(queue, priority), prices_of(flow)
  local cost = cost_of(id, vtime, flow.guild)
  move_tags(queue, priority, flow.org, flow.guild, cost * org_price, cost * guild_price)
  move_open(vtime, flow.org, cost * org_price)
  move_open(vtime, flow.guild, cost * guild_price)
  local charged = table.concat({cost, priority, flow.org, flow.guild, org_price, guild_price}, ' ')
  redis.call('SET', CHARGED_PREFIX .. id, charged, 'PX', TURNS_KEPT_MS)
end

-- The job has ended: its flow is charged what it took, in place of what was expected.
local function correct_charge(id, queue, used_input, used_output)
  if used_input == '' or redis.call('HGET', FAIR_SHARE, 'cost') == 'jobs' then
    end_charge(id, queue)
    return
  end
  local used = number(used_input, 0) + OUTPUT_COST * number(used_output, 0)
  local vtime, guild = end_charge(id, queue, used)
  if guild then learn_answer(id, vtime, guild, used) end
end

local function waits_in_turn(id, index)
  local score = redis.call('ZSCORE', index, id)
  return score and tonumber(score) >= UNANNOUNCED and fields(id, 'state') == 'queued'
end

-- Whether an organisation's job goes ahead of the window: by its tag it is next, or it is before those whose
-- jobs fill the window. Of the latter each gets one at a time, so that a burst keeps its order.
local function goes_ahead(vtime, org, org_tag)
  local floor, served = unpack(redis.call('HMGET', vtime, 'floor', 'served'))
  if floor and org_tag <= tonumber(floor) then return true end
  return served and org_tag <= tonumber(served) and open_of(vtime, org) == 0
end

-- Puts a job that has arrived into its guild's backlog, or at the front of the window.
-- returns: the job's priority, where it waits now
local function sort_in(id, queue, now)
  local of_queue, priority, created = fields(id, 'queue', 'priority', 'created_ms')
  if of_queue ~= queue or not BAND_OF[priority or ''] then return end
  if not waits_in_turn(id, queued_key(queue, priority)) then return end
  local flow, flows, vtime = flow_of(id), flows_key(queue, priority), vtime_key(queue, priority)
  flow.org = bounded(flows, flow.org)
  local of_org = flows .. ':' .. flow.org
  flow.guild = bounded(of_org, flow.guild)
  local org_tag, org_waits = tag_of(flows, vtime, flow.org, 'floor')
  if not org_waits and goes_ahead(vtime, flow.org, org_tag) then
    charge(id, queue, priority, flow)
    announce_first(id, now)
    return
  end
  local guild_tag = tag_of(of_org, vtime, flow.guild, 'floor:' .. flow.org)
  local backlog = backlog_key(queue, priority, flow.guild)
  redis.call('ZADD', backlog, 'NX', number(created, now), id)
  redis.call('ZADD', of_org, 'NX', guild_tag, flow.guild)
  redis.call('ZADD', flows, 'NX', org_tag, flow.org)
  for _, key in ipairs({backlog, of_org, flows}) do keep_for_a_day(key) end
  return priority
end

-- A flow whose last job went is idle: its tag is kept beside.
local function set_aside(flows, vtime, name)
  local tag = redis.call('ZSCORE', flows, name)
  redis.call('ZREM', flows, name)
  if tag then set_tag(flows, vtime, name, tonumber(tag), false) end
end

-- Takes the next job in turn out of its backlog; nothing when none waits.
-- running: organisations whose turn it is not, where a job is asked for out of turn; else nil
local function next_in_turn(queue, priority, running)
  local flows, vtime, index = flows_key(queue, priority), vtime_key(queue, priority), queued_key(queue, priority)
  local passed_over = 0
  for _ = 1, MOST_LOOKED_AT do
    local org, org_tag = unpack(redis.call('ZRANGE', flows, passed_over, passed_over, 'WITHSCORES'))
    if not org then return end
    local of_org = flows .. ':' .. org
    local guild, guild_tag = unpack(redis.call('ZRANGE', of_org, 0, 0, 'WITHSCORES'))
    local backlog = backlog_key(queue, priority, guild or '')
    local id = redis.call('ZRANGE', backlog, 0, 0)[1]
    local flow = id and flow_of(id)
    if flow and running and running[flow.org_name] then
      passed_over = passed_over + 1
    else
      local waits = id and waits_in_turn(id, index)
      if waits then
        -- Of a job out of turn nobody learns how far the turns are.
        if not running then
          redis.call('HSET', vtime, 'served', org_tag, 'floor', org_tag - open_of(vtime, org),
            'floor:' .. org, guild_tag - open_of(vtime, guild))
        end
        flow.org, flow.guild = org, guild
        charge(id, queue, priority, flow)
      end
      if id then redis.call('ZREM', backlog, id) end
      if guild and redis.call('EXISTS', backlog) == 0 then set_aside(of_org, vtime, guild) end
      if redis.call('EXISTS', of_org) == 0 then set_aside(flows, vtime, org) end
      if waits then return id end
    end
  end
end

-- Brings jobs in turn into the window, as long as it has room. returns: true where no more wait
local function refill(queue, priority, now)
  local length = redis.pcall('LLEN', message_list(queue, priority))
  if type(length) ~= 'number' then return end
  local window = tonumber(redis.call('HGET', FAIR_SHARE, 'window') or USUAL_WINDOW)
  for _ = 1, math.min(window - length, MOST_MOVED) do
    local id = next_in_turn(queue, priority)
    if not id then return true end
    announce_last(id, now)
  end
end

-- Sorts in what has arrived: the oldest, and some of the latest, which may be another organisation's than
-- those of a burst before them. returns: the priorities it waits at, as a set
local function sort_arrivals(queue, now, most)
  local arrivals, priorities = arrivals_key(queue), {}
  local function sort(ids)
    for i = #ids, 1, -1 do
      local priority = ids[i] ~= MARK and sort_in(ids[i], queue, now)
      if priority then priorities[priority] = true end
    end
  end
  local oldest = redis.call('LRANGE', arrivals, -most, -1)
  redis.call('LTRIM', arrivals, 0, -#oldest - 1)
  sort(oldest)
  if #oldest == most then
    sort(redis.call('LRANGE', arrivals, 0, MOST_LATEST - 1))
    redis.call('LTRIM', arrivals, MOST_LATEST, -1)
  end
  return priorities
end

local function mark_backlog(queue)
  local arrivals, flows = arrivals_key(queue), {}
  for i, priority in ipairs(BANDS) do flows[i] = flows_key(queue, priority) end
  local marked = redis.call('LINDEX', arrivals, -1) == MARK
  if redis.call('EXISTS', unpack(flows)) > 0 then
    if not marked then redis.call('RPUSH', arrivals, MARK) end
    keep_for_a_day(arrivals)
  elseif marked then
    redis.call('LTRIM', arrivals, 0, -2)
  end
end

-- The job at the head of a priority's window: the one that is taken next. Wake-ups of jobs that wait there no more,
-- as cancelled ones, are dropped: under a flood nobody would take them, and all behind them would stay.
local function head_of(queue, priority)
  local list = message_list(queue, priority)
  for _ = 1, MOST_LOOKED_AT do
    local id = job_of(redis.call('LINDEX', list, -1))
    if not id then return end
    local state, of_priority = fields(id, 'state', 'priority')
    if state == 'queued' and of_priority == priority then return id end
    redis.call('LTRIM', list, 0, -2)
  end
end

-- Moves the head of one window to a higher one.
local function lift(id, queue, from, to, now, put)
  redis.call('LTRIM', message_list(queue, from), 0, -2)
  redis.call('ZREM', queued_key(queue, from), id)
  redis.call('HSET', job_key(id), 'priority', to, 'lifted_ms', now)
  put(id, now)
  refill(queue, from, now)
end

-- The oldest of the lower priorities' heads goes ahead, whatever waits here.
local function lift_oldest(queue, priority, now)
  local oldest, from, since = nil, nil, now
  for band = (BAND_OF[priority] or #BANDS) + 1, #BANDS do
    local id = head_of(queue, BANDS[band])
    local created = id and number(fields(id, 'created_ms'), now)
    if created and created < since then oldest, from, since = id, BANDS[band], created end
  end
  if oldest then lift(oldest, queue, from, priority, now, announce_first) end
end

-- A worker has taken a job, or ended one: what has arrived is sorted in, and the window filled up.
local function take_turns(queue, priority, now, claimed)
  local arrivals = arrivals_key(queue or '')
  local waiting = redis.call('LLEN', arrivals)
  if waiting == 0 then return end
  local touched, emptied = {}, false
  local arrived = waiting > 1 or redis.call('LINDEX', arrivals, -1) ~= MARK
  -- The window has room since the claim, and was filled up then.
  if not (arrived or claimed) then return end
  if arrived then touched = sort_arrivals(queue, now, MOST_SORTED) end
  touched[priority or '0'] = true
  for one in pairs(touched) do emptied = refill(queue, one, now) or emptied end
  if arrived or emptied then mark_backlog(queue) end
  if not claimed then return end
  local turns = redis.call('HINCRBY', FAIR_SHARE, 'turns:' .. queue, 1)
  keep_for_a_day(FAIR_SHARE)
  if turns % TURNS_A_LIFT == 0 then lift_oldest(queue, priority, now) end
end
