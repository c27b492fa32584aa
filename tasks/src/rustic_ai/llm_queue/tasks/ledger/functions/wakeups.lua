-- Wake-ups: Celery's messages, as the ledger itself sends them for jobs that had to wait.
-- WAKEUP is `wakeup_message` of a job with placeholders (library.py).
local ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

-- Base64 of a text whose length is a multiple of three, as a UUID's is.
local function base64(text)
  local digits = {}
  for i = 1, #text - 2, 3 do
    local a, b, c = string.byte(text, i, i + 2)
    local bits = a * 65536 + b * 256 + c
    for shift = 18, 0, -6 do
      local digit = math.floor(bits / 2 ^ shift) % 64 + 1
      digits[#digits + 1] = string.sub(ALPHABET, digit, digit)
    end
  end
  return table.concat(digits)
end

local function message_list(queue, priority)
  return priority == '0' and TAG .. queue or TAG .. queue .. '\6\22' .. priority
end

-- What Flower and the logs show in place of the arguments.
local function shown_arguments(id)
  local model, owner_json, tokens, kind, texts =
    fields(id, 'model', 'owner', 'estimated_tokens', 'kind', 'text_count')
  local known, owner = pcall(cjson.decode, owner_json or '')
  owner = known and type(owner) == 'table' and owner or {}
  local function text(value) return type(value) == 'string' and value or '' end
  local shown = kind and kind ~= 'chat' and 'kind=' .. kind .. ' texts=' .. text(texts) .. ' ' or ''
  return shown .. 'model=' .. text(model) .. ' org=' .. text(owner.org) .. ' guild=' .. text(owner.guild)
    .. ' agent=' .. text(owner.agent) .. ' ~tokens=' .. text(tokens)
end

-- returns: the job's wake-up, its queue and its priority
local function wakeup_of(id)
  local queue, priority = fields(id, 'queue', 'priority')
  queue, priority = queue or '', priority or '0'
  local values = {
    ID = id,
    ['ENCODED-ID'] = base64(id),
    QUEUE = string.sub(cjson.encode(queue), 2, -2),
    PRIORITY = priority,
    ARGUMENTS = string.sub(cjson.encode(shown_arguments(id)), 2, -2),
  }
  local message = string.gsub(WAKEUP, '@([A-Z-]+)@', values)
  return message, queue, priority
end

-- The job that a message in a queue's list is for; nil where it is no wake-up.
local function job_of(message)
  local known, wakeup = pcall(cjson.decode, message or '')
  local headers = known and type(wakeup) == 'table' and wakeup.headers
  local id = type(headers) == 'table' and headers.id
  return type(id) == 'string' and id or nil
end

-- Puts a job on the queue and wakes a worker up for it. push: the list's end that it goes to.
local function announce(id, now, push)
  local message, queue, priority = wakeup_of(id)
  redis.call('ZADD', queued_key(queue, priority), now, id)
  -- Where something else was put in the list's place, the job is announced once that is gone.
  redis.pcall(push, message_list(queue, priority), message)
end

-- A job that has had its wait goes first.
local function announce_first(id, now) announce(id, now, 'RPUSH') end
local function announce_last(id, now) announce(id, now, 'LPUSH') end
