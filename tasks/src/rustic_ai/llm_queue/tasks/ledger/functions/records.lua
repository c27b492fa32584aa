-- Reading a job's record, and the indexes in which a job stands.
local FINAL = {answered = true, failed = true, cancelled = true, expired = true}

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function job_key(id) return JOB_PREFIX .. id end
local function result_key(id) return RESULT_PREFIX .. id end
local function result_channel(id) return RESULT_CHANNEL_PREFIX .. id end
local function log_key(id) return STREAM_PREFIX .. id end
local function queued_key(queue, priority) return QUEUED_PREFIX .. queue .. ':' .. priority end

-- The fields asked for: false for each that is missing, and nothing at all where the record is not
-- a hash. One record that was tampered with must not keep a reap from the others.
local function fields(id, ...)
  local values = redis.pcall('HMGET', job_key(id), ...)
  if values.err then return end
  return unpack(values)
end

-- A field as a whole number; `otherwise` where it holds anything else.
local function number(text, otherwise)
  return text and #text < 16 and string.find(text, '^%d+$') and tonumber(text) or otherwise
end

-- Whether this epoch's claim still has the job.
local function holds(id, epoch)
  local state, current = fields(id, 'state', 'epoch')
  return state == 'running' and current == epoch
end

-- The index of the waiting jobs of this job's queue and priority.
local function queued_beside(id)
  local queue, priority = fields(id, 'queue', 'priority')
  return queued_key(queue or '', priority or '0')
end

local function enqueue(id, now)
  redis.call('ZREM', LEASES, id)
  redis.call('ZADD', queued_beside(id), now, id)
end

local function bury(id, now, ttl_ms)
  redis.call('ZREMRANGEBYSCORE', DEAD, '-inf', now - ttl_ms)
  redis.call('ZADD', DEAD, now, id)
  redis.call('PEXPIRE', DEAD, ttl_ms)
end

-- With a key tag each call names one key more, which never exists (`key_tag.py` says why): the body has no use
-- for it.
local function unfenced(body)
  if TAG == '' then return body end
  return function(keys, args)
    keys[#keys] = nil
    return body(keys, args)
  end
end

-- Makes a function callable by a method of `Ledger`. It may run when Redis is out of memory, because
-- it ends or frees something.
local function register(name, body)
  redis.register_function{
    function_name = LIBRARY .. '_' .. name, callback = unfenced(body), flags = {'allow-oom'}}
end

-- The same for a function that only adds: it fails when Redis is out of memory.
local function register_growing(name, body)
  redis.register_function(LIBRARY .. '_' .. name, unfenced(body))
end
