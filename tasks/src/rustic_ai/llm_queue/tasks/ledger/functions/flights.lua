-- Equal calls asked once. The first job to ask leads a flight, under the name of what is asked; jobs that
-- ask the same meanwhile follow it: they wait, unannounced and held by no worker, for the leader's answer.
-- The leader is a job and not a worker, so a lost worker leaves no flight behind.

-- How long after an answer its worker has for telling the followers, and between two looks at a flight.
local FLIGHT_GRACE_MS = 5000

local function leads(id, name)
  local state, flight = fields(id, 'state', 'flight')
  return (state == 'queued' or state == 'running') and flight == name
end

local function waits_for(id, name)
  local state, flight = fields(id, 'state', 'flight')
  return state == 'queued' and flight == name
end

-- The follower that has waited longest leads now, and is put on the queue ahead of the others.
local function hand_over(name, now)
  local flight, followers = FLIGHT_PREFIX .. name, FOLLOWERS_PREFIX .. name
  while true do
    local next_id = redis.call('ZPOPMIN', followers)[1]
    if not next_id then
      redis.call('DEL', flight)
      redis.call('ZREM', FLIGHTS, name)
      return
    end
    if waits_for(next_id, name) then
      redis.call('HSET', flight, 'leader', next_id)
      redis.call('HINCRBY', flight, 'handovers', 1)
      announce_first(next_id, now)
      return
    end
  end
end

-- A job of a flight has ended, whatever way. Without a leader's answer, or a failure that it shares, the
-- flight goes on.
local function leave_flight(name, id, state, now)
  local flight, followers = FLIGHT_PREFIX .. name, FOLLOWERS_PREFIX .. name
  if redis.call('HGET', flight, 'leader') ~= id then
    redis.call('ZREM', followers, id)
  elseif state == 'answered' or fields(id, 'flight_shared') == '1' then
    redis.call('DEL', flight)
    if redis.call('EXISTS', followers) == 1 then redis.call('ZADD', FLIGHTS, now + FLIGHT_GRACE_MS, name) end
  else
    hand_over(name, now)
  end
end

-- keys: job, flight, followers
-- returns: {'leads', handovers so far}, {'follows'} (it is parked, this worker holds nothing of it), or
-- {'stale'} when another claim has the job
local function join(keys, args)
  local id, epoch, name = unpack(args)
  local job, flight, followers = unpack(keys)
  if not holds(id, epoch) then return {'stale'} end
  local now = now_ms()
  local deadline, created = fields(id, 'deadline_ms', 'created_ms')
  local until_ms = number(deadline, now) + FLIGHT_GRACE_MS
  local leader = redis.call('HGET', flight, 'leader')
  redis.call('HSET', job, 'flight', name)
  if leader and leader ~= id and leads(leader, name) then
    redis.call('HSET', job, 'state', 'queued')
    redis.call('HDEL', job, 'claim_token')
    redis.pcall('HINCRBY', job, 'handbacks', 1)
    -- A job that has called no provider yet has not started.
    if redis.pcall('HINCRBY', job, 'attempts_begun', -1) == 0 then redis.call('HDEL', job, 'started_ms') end
    redis.call('ZREM', LEASES, id)
    redis.call('ZADD', followers, number(created, now), id)
    if redis.call('PTTL', followers) < until_ms - now then redis.call('PEXPIREAT', followers, until_ms) end
    redis.call('ZADD', FLIGHTS, 'NX', now + FLIGHT_GRACE_MS, name)
    redis.call('PEXPIRE', FLIGHTS, 86400000)
    return {'follows'}
  end
  if leader ~= id then
    redis.call('HDEL', flight, 'handovers')
    redis.call('HSET', flight, 'leader', id)
  end
  if redis.call('PTTL', flight) < until_ms - now then redis.call('PEXPIREAT', flight, until_ms) end
  return {'leads', number(redis.call('HGET', flight, 'handovers'), 0)}
end
register('join', join)

-- The leader fails with what would fail for its followers, too: they get its error instead of trying.
-- keys: job; returns 1, or 0 when fenced off
local function share_failure(keys, args)
  local id, epoch = unpack(args)
  if not holds(id, epoch) then return 0 end
  redis.call('HSET', keys[1], 'flight_shared', 1)
  return 1
end
register('share_failure', share_failure)

-- keys: followers; then the names of the fields wanted
-- returns: of each of the jobs that still wait for this flight, the oldest first, its id and those fields
local function followers_of(keys, args)
  local name, most = unpack(args)
  local found = {}
  for _, id in ipairs(redis.call('ZRANGE', keys[1], 0, tonumber(most) - 1)) do
    if waits_for(id, name) then found[#found + 1] = {id, fields(id, unpack(args, 3))}
    else redis.call('ZREM', keys[1], id) end
  end
  return found
end
register('followers_of', followers_of)

-- Looks after flights whose leader is gone, or whose answer did not reach all: their followers ask anew.
-- returns: those followers
local function repair_flights(_, args)
  local most = unpack(args)
  local now, ids = now_ms(), {}
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', FLIGHTS, '-inf', now, 'LIMIT', 0, most)) do
    local leader, followers = redis.call('HGET', FLIGHT_PREFIX .. name, 'leader'), FOLLOWERS_PREFIX .. name
    if not (leader and leads(leader, name)) then
      local lost = redis.call('ZPOPMIN', followers, most)
      for i = 1, #lost, 2 do
        if waits_for(lost[i], name) then
          announce_first(lost[i], now)
          ids[#ids + 1] = lost[i]
        end
      end
    end
    if redis.call('EXISTS', followers) == 1 then redis.call('ZADD', FLIGHTS, now + FLIGHT_GRACE_MS, name)
    else redis.call('ZREM', FLIGHTS, name) end
  end
  return ids
end
register('repair_flights', repair_flights)
