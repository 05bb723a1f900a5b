-- Every operation of a storage in Redis; turnwise/storages/__init__.py says what each promises.
--
-- A script is one atomic step of the server. It compares versions, counts and instants, and knows
-- no rule. Instants are whole microseconds; Lua's doubles are exact below 2^53, the year 2255.
--
-- KEYS[1] is what all keys of a group begin with, their hash tag in it. ARGV: the operation, now
-- (empty: the server's own clock), and the operation's arguments. Names of services and kinds come
-- quoted, so that they can be a part of a key.
--
-- runners           hash  runner id -> its lives: boot id -> row
-- drained           set   of runner ids
-- revision          number
-- services          set   of those that may have something; the keys below say what they have
-- offers:<service>  hash  (runner id, boot id) -> offer
-- record:<service>  hash  per kind, "plan" or "gate": its body, its ".version", its ".owner"
-- entries:<service> hash  id -> row of the history
-- history:<service> sorted set of the ids, by their instants; kind:<service>:<kind> of one kind's
-- kinds:<service>   set   of the kinds that are there

local base, call = KEYS[1], redis.call

-- A server that takes no writes is the wrong one, for a read as well: what it has may be old. This
-- changes nothing, goes to no replica, and comes first: where it is refused, nothing was done.
call("DEL", base .. "none")

local time = call("TIME")
local now = tonumber(ARGV[2]) or time[1] * 1000000 + time[2]

local function key(kind, name) return base .. kind .. ":" .. name end
local function unpacked(kept) return kept and cmsgpack.unpack(kept) end
local function life(runner, boot) return cmsgpack.pack({ runner, boot }) end
local function services() return call("SMEMBERS", base .. "services") end
local function add_service(service) call("SADD", base .. "services", service) end

local function rest(first)
  local found = {}
  for i = first, #ARGV do found[#found + 1] = ARGV[i] end
  return found
end

local function set_of(list)
  local found = {}
  for _, value in ipairs(list) do found[value] = true end
  return found
end

-- The revision is there wherever a runner is. Where it was lost it jumps ahead of all that anybody
-- has seen: everybody looks again.
local function revision()
  local kept = call("GET", base .. "revision")
  if not kept and call("EXISTS", base .. "runners") == 1 then
    kept = string.format("%.0f", now)
    call("SET", base .. "revision", kept)
  end
  return tonumber(kept) or 0
end

local function advance()
  revision()
  return call("INCR", base .. "revision")
end

-- Lives and offers --------------------------------------------------------------------------------

local function lives_of(runner) return unpacked(call("HGET", base .. "runners", runner)) or {} end

local function keep_lives(runner, lives)
  if next(lives) then
    call("HSET", base .. "runners", runner, cmsgpack.pack(lives))
  else
    call("HDEL", base .. "runners", runner)
  end
end

local function joined_at(lives)
  local first
  for _, row in pairs(lives) do first = math.min(first or row.joined, row.joined) end
  return first
end

-- A row lists what its life offers, so that a heartbeat need not go through all services.
local function set_offered(runner, boot, service, offered)
  local lives = lives_of(runner)
  local row = lives[boot]
  if not row then return end
  local listed = offered and { service } or {}
  for _, name in ipairs(row.services) do
    if name ~= service then listed[#listed + 1] = name end
  end
  row.services = listed
  keep_lives(runner, lives)
end

local function each_offer(service, visit)
  local kept = call("HGETALL", key("offers", service))
  for i = 1, #kept, 2 do
    local of = cmsgpack.unpack(kept[i])
    visit(of[1], of[2], cmsgpack.unpack(kept[i + 1]), kept[i])
  end
end

local function forget_offers(is_gone)
  for _, service in ipairs(services()) do
    each_offer(service, function(runner, _, _, field)
      if is_gone(runner, field) then call("HDEL", key("offers", service), field) end
    end)
  end
end

-- Open runs ---------------------------------------------------------------------------------------

local function owner_of(service)
  return unpacked(call("HGET", key("record", service), "gate.owner"))
end

-- The owner, and its word: 0 where its row does not name the run, false where there is no row.
local function sight(service)
  local owner = owner_of(service)
  if not owner then return false end
  local row = lives_of(owner[2])[owner[3]]
  local word = row and (set_of(row.runs)[owner[1]] and row.count or 0)
  return { owner, word or false, row and row.left and 1 or 0 }
end

local function is_open(run)
  for _, service in ipairs(services()) do
    local owner = owner_of(service)
    if owner and owner[1] == run then return true end
  end
  return false
end

-- The operations ----------------------------------------------------------------------------------

local operations = { advance = advance }

-- A life is found where its row and all its offers are there. What was lost of it makes it a new
-- one, so that its process offers everything again.
local function find_life(lives, runner, boot)
  local row, found = lives[boot], lives[boot] ~= nil
  local listed = row and row.services or services()
  row = row or { joined = joined_at(lives) or now, runs = {} }
  row.services = {}
  for _, service in ipairs(listed) do
    if call("HEXISTS", key("offers", service), life(runner, boot)) == 1 then
      row.services[#row.services + 1] = service
    else
      found = false
    end
  end
  return row, found
end

function operations.heartbeat()
  local runner, boot, count, timeout = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
  local runs, current, lives = rest(7), revision(), lives_of(runner)
  local row, found = find_life(lives, runner, boot)
  lives[boot] = row
  if not row.left and (not row.count or count > row.count) then
    row.heard, row.count, row.timeout, row.runs = now, count, timeout, runs
  end
  keep_lives(runner, lives)
  call("SETNX", base .. "revision", "0")
  local sights, seen, open, others = {}, {}, {}, {}
  for _, service in ipairs(row.services) do
    local one = sight(service)
    if one then
      sights[#sights + 1], seen[one[1][1]] = { service, one }, true
    end
  end
  for _, run in ipairs(runs) do
    if seen[run] or is_open(run) then open[#open + 1] = run end
  end
  for other, kept in pairs(lives) do
    if other ~= boot and not kept.left then others[#others + 1] = { other, kept.count } end
  end
  local drained = call("SISMEMBER", base .. "drained", runner)
  return { now, current, found and 1 or 0, row.left and 1 or 0, drained, open, sights, others }
end

function operations.leave()
  local lives = lives_of(ARGV[3])
  local row = lives[ARGV[4]]
  if row and not row.left then
    row.left = now
    keep_lives(ARGV[3], lives)
  end
end

function operations.offer()
  local service, runner, boot, settings = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
  local new = { settings, tonumber(ARGV[7]), ARGV[8], now, tonumber(ARGV[9]) }
  local field, known = life(runner, boot), false
  each_offer(service, function(_, _, kept, other)
    if other ~= field then
      known = known or kept[1] == settings
    elseif kept[1] == new[1] and kept[2] == new[2] and kept[3] == new[3] then
      new[4] = kept[4] -- it has not changed
    end
  end)
  add_service(service)
  call("HSET", key("offers", service), field, cmsgpack.pack(new))
  set_offered(runner, boot, service, true)
  return known and revision() or advance()
end

function operations.withdraw()
  local service, runner, boot = ARGV[3], ARGV[4], ARGV[5]
  call("HDEL", key("offers", service), life(runner, boot))
  set_offered(runner, boot, service, false)
end

-- Python's number % size, for a number of any length.
local function modulo(number, size)
  local left = 0
  for digit in number:gmatch("%d") do left = (left * 10 + tonumber(digit)) % size end
  return number:sub(1, 1) == "-" and -left % size or left
end

-- By instant, then by the bytes of the name: Lua's own order of texts goes by the server's locale.
local function comes_before(one, other)
  if one[2] ~= other[2] then return one[2] < other[2] end
  for i = 1, math.min(#one[1], #other[1]) do
    local a, b = one[1]:byte(i), other[1]:byte(i)
    if a ~= b then return a < b end
  end
  return #one[1] < #other[1]
end

function operations.stable()
  local service, rotation, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
  local drained = set_of(call("SMEMBERS", base .. "drained"))
  local set, is_in, digest, part, alive = {}, {}, 0, {}, {}
  each_offer(service, function(runner, boot, offer)
    if offer[3] == "0" or is_in[runner] or drained[runner] then return end
    local lives = lives_of(runner)
    local row = lives[boot]
    if row and not row.left and row.heard <= now and row.heard >= now - offer[2] then
      is_in[runner], set[#set + 1] = true, { runner, joined_at(lives) }
      digest = (digest + offer[5]) % 2 ^ 48
    end
  end)
  table.sort(set, comes_before)
  local first = #set > 0 and modulo(rotation, #set)
  for i = 1, math.min(#set, limit or #set) do part[i] = set[(first + i - 1) % #set + 1] end
  for _, runner in ipairs(rest(6)) do
    if is_in[runner] then alive[#alive + 1] = runner end
  end
  return { now, #set, digest, part, alive }
end

function operations.mark()
  call(ARGV[4] == "1" and "SADD" or "SREM", base .. "drained", ARGV[3])
  advance()
end

-- Records -----------------------------------------------------------------------------------------

local function record(service, kind)
  local fields = { kind .. ".version", kind, kind .. ".owner" }
  local kept = call("HMGET", key("record", service), unpack(fields))
  return kept[1] and { kept[1], kept[2], unpacked(kept[3]) or false }
end

function operations.read()
  local found = {}
  for i, service in ipairs(rest(3)) do
    local plan, gate = record(service, "plan"), record(service, "gate")
    if plan or gate then add_service(service) end -- where that list was lost
    found[i] = { plan, gate, sight(service) }
  end
  return { now, revision(), found }
end

function operations.swap()
  local service, kind, expected, not_after = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
  local at = key("record", service)
  local version = call("HGET", at, kind .. ".version")
  -- "+" stands before a version, "-" for none.
  if (version and "+" .. version or "-") ~= expected or (not_after and now > not_after) then
    return { now, 0 }
  end
  call("HSET", at, kind .. ".version", ARGV[7], kind, ARGV[8])
  if ARGV[9] then
    local owner = { ARGV[9], ARGV[10], ARGV[11], tonumber(ARGV[12]) }
    call("HSET", at, kind .. ".owner", cmsgpack.pack(owner))
  else
    call("HDEL", at, kind .. ".owner")
  end
  add_service(service)
  return { now, 1 }
end

-- History -----------------------------------------------------------------------------------------

local function list_of(service, kind) return key("kind", service .. ":" .. kind) end

local function forget_history(service)
  for _, kind in ipairs(call("SMEMBERS", key("kinds", service))) do
    call("UNLINK", list_of(service, kind))
  end
  call("UNLINK", key("history", service), key("entries", service), key("kinds", service))
end

-- Whether no key of a history was lost; what is left then is of no use without it.
local function is_whole(service)
  local kinds = key("kinds", service)
  local there = call("EXISTS", key("history", service), key("entries", service), kinds)
  for _, kind in ipairs(call("SMEMBERS", kinds)) do
    if call("EXISTS", list_of(service, kind)) == 0 then return false end
  end
  return there == 0 or there == 3
end

function operations.append()
  local service = ARGV[3]
  local ids, entries = key("history", service), key("entries", service)
  if not is_whole(service) then forget_history(service) end
  for i = 4, #ARGV, 4 do
    local id, at, kind = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local row = cmsgpack.pack({ id, tonumber(at), kind, ARGV[i + 3] })
    if call("HSETNX", entries, id, row) == 1 then
      call("ZADD", ids, at, id)
      call("ZADD", list_of(service, kind), at, id)
      call("SADD", key("kinds", service), kind)
    end
  end
  add_service(service)
end

-- A part of a list, from its newest row backwards, and how many rows of the list were gone through.
function operations.history()
  local service, list, since, before = ARGV[3], base .. ARGV[4], ARGV[5], ARGV[6]
  local newer = before ~= "" and call("ZCOUNT", list, before, "+inf") or 0
  local older = since ~= "" and call("ZCOUNT", list, "-inf", "(" .. since) or 0
  local first, most = newer + tonumber(ARGV[7]), tonumber(ARGV[8])
  local stop = math.min(first + most, call("ZCARD", list) - older)
  local found, ids = {}, stop > first and call("ZREVRANGE", list, first, stop - 1) or {}
  for _, id in ipairs(ids) do
    local row = call("HGET", key("entries", service), id)
    if row then found[#found + 1] = cmsgpack.unpack(row) end -- it may have been lost
  end
  return { #ids, found }
end

-- Forgets at most so many rows of the kinds that are not spared, the oldest; answers how many are
-- left to forget. It goes by the lists of the kinds, so that spared rows cost nothing.
function operations.purge()
  local service, before, keep, most = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
  local spared, lists, rows, too_old, all = set_of(rest(7)), {}, {}, 0, 0
  for _, kind in ipairs(call("SMEMBERS", key("kinds", service))) do
    local list = not spared[kind] and list_of(service, kind)
    if list then
      lists[kind] = list
      too_old = too_old + call("ZCOUNT", list, "-inf", "(" .. before)
      all = all + call("ZCARD", list)
    end
  end
  local doomed = math.max(too_old, all - keep, 0)
  local gone = math.min(doomed, most)
  for _, list in pairs(gone > 0 and lists or {}) do
    local oldest = call("ZRANGE", list, 0, gone - 1, "WITHSCORES")
    for i = 1, #oldest, 2 do rows[#rows + 1] = { oldest[i], tonumber(oldest[i + 1]), list } end
  end
  table.sort(rows, comes_before)
  for i = 1, gone do
    local id, list = rows[i][1], rows[i][3]
    call("ZREM", list, id)
    call("ZREM", key("history", service), id)
    call("HDEL", key("entries", service), id)
  end
  for kind, list in pairs(lists) do
    if call("EXISTS", list) == 0 then call("SREM", key("kinds", service), kind) end
  end
  return doomed - gone
end

-- Lists, and forgetting ---------------------------------------------------------------------------

local function each_life(visit)
  local kept = call("HGETALL", base .. "runners")
  for i = 1, #kept, 2 do
    local lives = cmsgpack.unpack(kept[i + 1])
    for boot, row in pairs(lives) do visit(kept[i], boot, row, lives) end
  end
end

function operations.purge_runners()
  local gone = {}
  each_life(function(runner, boot, row, lives)
    if row.heard < tonumber(ARGV[3]) then
      lives[boot], gone[life(runner, boot)] = nil, true
      keep_lives(runner, lives)
    end
  end)
  if next(gone) then
    forget_offers(function(_, field) return gone[field] end)
  end
end

function operations.services()
  local found = {}
  for _, service in ipairs(services()) do
    local offers, records = key("offers", service), key("record", service)
    local there = call("EXISTS", offers, records, key("history", service)) > 0
    if there and service ~= "" then -- which is the group itself
      found[#found + 1] = service
    end
  end
  return found
end

function operations.runners()
  local found = {}
  each_life(function(runner, boot, row)
    local drained = call("SISMEMBER", base .. "drained", runner)
    local said = { row.count, row.timeout, row.runs, drained }
    found[#found + 1] = { runner, boot, row.joined, row.heard, row.left or false, unpack(said) }
  end)
  return found
end

function operations.offers()
  local found = {}
  for _, service in ipairs(services()) do
    each_offer(service, function(runner, boot, offer)
      found[#found + 1] = { service, runner, boot, offer }
    end)
  end
  return found
end

function operations.forget_service()
  local service = ARGV[3]
  each_offer(service, function(runner, boot) set_offered(runner, boot, service, false) end)
  forget_history(service)
  call("UNLINK", key("offers", service), key("record", service))
  call("SREM", base .. "services", service)
end

function operations.forget_runner()
  local runner = ARGV[3]
  call("HDEL", base .. "runners", runner)
  call("SREM", base .. "drained", runner)
  forget_offers(function(of) return of == runner end)
end

return operations[ARGV[1]]()
