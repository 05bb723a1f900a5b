-- Every operation of a Redis storage, each in one step of the server.
--
-- The rules are those of turnwise.membership and turnwise.backends.memory, said again where the
-- server must apply them. Instants are whole microseconds since the epoch. They are kept and
-- handed over as text: Lua counts in doubles, which are exact up to 2^53, the year 2255.
--
-- KEYS: the keys of one service. ARGV: the operation, now (empty: the server's clock), and the
-- operation's own arguments as a JSON object of strings; "" stands for none.

local runners, created, heard, frozen = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local settings, token, running, served = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local runs, by_start, by_end = KEYS[9], KEYS[10], KEYS[11]
local given = cjson.decode(ARGV[3])

local function text(number)
  return string.format("%.0f", number)
end

local function clock()
  if ARGV[2] ~= "" then
    return tonumber(ARGV[2])
  end
  local time = redis.call("TIME")
  return time[1] * 1000000 + time[2]
end

local now = clock()
local interval, timeout = tonumber(given.interval), tonumber(given.timeout)

local function cycle_start(at)
  return at - at % interval
end

local function score(set, name)
  return tonumber(redis.call("ZSCORE", set, name))
end

-- Membership ------------------------------------------------------------------------------------

-- turnwise.membership.after_heartbeat
local function beat()
  local name, start = given.runner_id, cycle_start(now)
  local row = { may_run = given.may_run, left_at = "", boot_id = given.boot_id, digest = given.digest }
  local created_at, heard_at, previous = now, now, false
  local kept = redis.call("HGET", runners, name)
  if kept then
    local before = cjson.decode(kept)
    local was_created, was_heard = score(created, name), score(heard, name)
    local left_at = tonumber(before.left_at)
    local gone = was_heard < start - timeout or (left_at and left_at < start)
    if gone or (given.may_run == "1" and before.may_run == "0") then
      created_at = math.max(now, was_created)
    else
      created_at, heard_at = was_created, math.max(now, was_heard)
      row.may_run = before.may_run
      if before.may_run ~= given.may_run then
        row.left_at = before.left_at ~= "" and before.left_at or text(now)
      end
    end
    previous = before.boot_id
  end
  redis.call("HSET", runners, name, cjson.encode(row))
  redis.call("ZADD", created, text(created_at), name)
  redis.call("ZADD", heard, text(heard_at), name)
  return created_at, previous
end

-- turnwise.membership.stable_set, and the digest's sum
local function stable_set(start)
  local before = "(" .. text(start - tonumber(given.margin))
  local candidates = redis.call("ZRANGEBYSCORE", created, "-inf", before, "WITHSCORES")
  local members, digest = {}, 0
  for i = 1, #candidates, 2 do
    local name = candidates[i]
    local row, heard_at = cjson.decode(redis.call("HGET", runners, name)), score(heard, name)
    local left_at = tonumber(row.left_at)
    local left = left_at and left_at < start
    if row.may_run == "1" and heard_at >= start - timeout and not left then
      members[#members + 1] = { name, text(tonumber(candidates[i + 1])), text(heard_at) }
      digest = (digest + tonumber(row.digest)) % 2 ^ 48
    end
  end
  return members, digest
end

-- The set of the cycle of an instant, as it is kept; else worked out, and kept where asked.
local function see(at, keep)
  local start = cycle_start(at)
  local kept = redis.call("HMGET", frozen, "cycle_start", "rules", "set")
  if kept[1] == text(start) and kept[2] == given.rules then
    return kept[3]
  end
  local members, digest = stable_set(start)
  local size, slots, first = #members, #members, 0
  if given.slots ~= "" and size > 0 then
    slots = math.min(size, tonumber(given.slots))
    first = (start / interval + tonumber(given.service_hash)) % size
  end
  local scheduled = {}
  for position = 0, slots - 1 do
    scheduled[position + 1] = members[(first + position) % size + 1]
  end
  local set = cjson.encode({ size = text(size), digest = text(digest), scheduled = scheduled })
  if keep then
    redis.call("HSET", frozen, "cycle_start", text(start), "rules", given.rules, "set", set)
  end
  return set
end

-- Executions ------------------------------------------------------------------------------------

local function run_of(run_id)
  local kept = run_id and redis.call("HGET", runs, run_id)
  return kept and cjson.decode(kept)
end

local function keep(run_id, run)
  redis.call("HSET", runs, run_id, cjson.encode(run))
end

-- It is over: from here on retention may forget it.
local function keep_ended(run_id, run)
  run.end_time = text(now)
  keep(run_id, run)
  redis.call("ZADD", by_start, run.start_time, run_id)
  redis.call("ZADD", by_end, run.end_time, run_id)
end

local function close(run_id, run, status, reason, opens_cycle)
  run.status, run.reason = status, reason
  keep_ended(run_id, run)
  redis.call("DEL", running)
  if opens_cycle == "1" and redis.call("HGET", served, run.serves) == run_id then
    redis.call("HDEL", served, run.serves)
  end
end

local function new_run()
  return {
    fixed = given.fixed,
    cycle_start = given.cycle_start,
    serves = given.serves,
    status = given.status,
    reason = given.reason,
    fencing_token = "",
    start_time = text(now),
    end_time = "",
    last_heartbeat = text(now),
  }
end

local function bury_dead_owner()
  local run_id = redis.call("GET", running)
  local run = run_of(run_id)
  if run and tonumber(run.last_heartbeat) < now - timeout then
    close(run_id, run, "abandoned", "owner_dead", given.dead_opens_cycle)
  end
end

local function forget(run_id)
  local run = run_of(run_id)
  if run and tonumber(run.cycle_start) < cycle_start(now) then
    redis.call("HDEL", runs, run_id)
    redis.call("ZREM", by_start, run_id)
    redis.call("ZREM", by_end, run_id)
    if redis.call("HGET", served, run.serves) == run_id then
      redis.call("HDEL", served, run.serves)
    end
  end
end

-- By age and by count; never of this cycle, and a running one is in neither list.
local function forget_what_is_over()
  local too_old = "(" .. text(now - tonumber(given.retention_age))
  local old = redis.call("ZRANGEBYSCORE", by_end, "-inf", too_old)
  local too_many = redis.call("ZREVRANGE", by_start, given.retention_count, -1)
  for _, over in ipairs({ old, too_many }) do
    for _, run_id in ipairs(over) do
      forget(run_id)
    end
  end
end

local function forget_runners()
  local silent_before = math.min(now - tonumber(given.retention_age), cycle_start(now) - timeout)
  local silent = redis.call("ZRANGEBYSCORE", heard, "-inf", "(" .. text(silent_before))
  for _, name in ipairs(silent) do
    redis.call("HDEL", runners, name)
    redis.call("ZREM", created, name)
    redis.call("ZREM", heard, name)
  end
end

-- The operations ----------------------------------------------------------------------------------

local operations = {}

function operations.publish_settings()
  local before = redis.call("GET", settings)
  redis.call("SET", settings, given.published)
  return before
end

function operations.heartbeat()
  local _, previous = beat()
  local holds_run = given.run_id ~= "" and redis.call("GET", running) == given.run_id
  if holds_run then
    local run = run_of(given.run_id)
    run.last_heartbeat = text(now)
    keep(given.run_id, run)
  end
  return { text(now), previous, holds_run and 1 or 0 }
end

function operations.look()
  local created_at, previous = beat()
  return { text(now), see(now, true), text(created_at), previous }
end

function operations.peek()
  local at = given.at ~= "" and tonumber(given.at) or now
  return { text(at), see(at, false) }
end

function operations.leave()
  local kept = redis.call("HGET", runners, given.runner_id)
  local row = kept and cjson.decode(kept)
  if row and row.boot_id == given.boot_id and row.left_at == "" then
    row.left_at = text(now)
    redis.call("HSET", runners, given.runner_id, cjson.encode(row))
  end
end

function operations.admit()
  bury_dead_owner()
  local prior = redis.call("GET", running)
  if prior then
    return { text(now), "", prior, run_of(prior).last_heartbeat }
  end
  local is_served = given.serves ~= "" and redis.call("HEXISTS", served, given.serves) == 1
  if is_served or redis.call("HEXISTS", runs, given.run_id) == 1 then
    return { text(now), "", "", "" }
  end
  local run = new_run()
  run.fencing_token = text(redis.call("INCR", token))
  keep(given.run_id, run)
  redis.call("SET", running, given.run_id)
  if given.serves ~= "" then
    redis.call("HSET", served, given.serves, given.run_id)
  end
  return { text(now), run.fencing_token, "", "" }
end

function operations.finish()
  if redis.call("GET", running) == given.run_id then
    close(given.run_id, run_of(given.run_id), given.status, given.reason, given.opens_cycle)
  end
  local kept = redis.call("HGET", runs, given.run_id)
  forget_what_is_over()
  forget_runners()
  return kept
end

function operations.block()
  if redis.call("HEXISTS", runs, given.run_id) == 0 then
    keep_ended(given.run_id, new_run())
  end
end

function operations.runners()
  local rows = redis.call("ZRANGE", created, 0, -1, "WITHSCORES")
  local found = {}
  for i = 1, #rows, 2 do
    local name = rows[i]
    found[#found + 1] = {
      name,
      text(tonumber(rows[i + 1])),
      text(score(heard, name)),
      redis.call("HGET", runners, name),
    }
  end
  return found
end

return operations[ARGV[1]]()
