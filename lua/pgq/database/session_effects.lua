-- What a statement leaves behind in its session, judged by its text and its command tag.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local find, match, sub, upper = string.find, string.match, string.sub, string.upper

local session_effects = {}

-- Statements that leave nothing behind in the session, by the first word of the command tag. All other statements may
-- leave something: SET, PREPARE, CREATE TEMPORARY TABLE, EXPLAIN ANALYZE of these …
local HARMLESS = {
  [""] = true, ANALYZE = true, BEGIN = true, CHECKPOINT = true, COMMIT = true, COPY = true, DELETE = true,
  FETCH = true, INSERT = true, LOCK = true, MERGE = true, MOVE = true, NOTIFY = true, REFRESH = true,
  RELEASE = true, ROLLBACK = true, SAVEPOINT = true, SELECT = true, SHOW = true, START = true, TRUNCATE = true,
  UPDATE = true, VACUUM = true,
}

-- Functions whose effect lasts longer than the transaction, even if the statement fails.
local LOCK = "[aA][dD][vV][iI][sS][oO][rR][yY]_[lL][oO][cC][kK]"
local SETTING = "[sS][eE][tT]_[cC][oO][nN][fF][iI][gG]"

-- A SET that ends with its transaction.
local SET_LOCAL = "^%s*[sS][eE][tT]%s+[lL][oO][cC][aA][lL]%s"
local SET_TRANSACTION = "^%s*[sS][eE][tT]%s+[tT][rR][aA][nN][sS]"

-- The position after a comment, which may contain other comments. `at` is the position after its opening /*.
local function skip_comment(sql, at)
  local depth = 1
  while depth > 0 do
    local from, to = find(sql, "[/*][/*]", at)
    local mark = from and sub(sql, from, to)
    if not mark then
      return #sql + 1
    end
    depth = depth + (mark == "/*" and 1 or mark == "*/" and -1 or 0)
    at = (mark == "/*" or mark == "*/") and to + 1 or from + 1
  end
  return at
end

-- The position of the first word from `at` on: after blanks, semicolons and comments.
local function skip_blanks(sql, at)
  while true do
    at = find(sql, "[^%s;]", at) or #sql + 1
    if find(sql, "^%-%-", at) then
      at = find(sql, "[\r\n]", at) or #sql + 1
    elseif find(sql, "^/%*", at) then
      at = skip_comment(sql, at + 2)
    else
      return at
    end
  end
end

-- The first words of a statement in capitals; "" for anything that is not a word.
local function first_words(sql, count)
  local words, at = {}, 1
  for i = 1, count do
    at = skip_blanks(sql, at)
    local word = match(sql, "^[%a_]+", at) or ""
    words[i] = upper(word)
    at = at + #word
  end
  return words
end

local ENDS = { COMMIT = true, ["END"] = true, ABORT = true, ROLLBACK = true }
local NOISE = { WORK = true, TRANSACTION = true }

-- The command by which a statement would end the transaction around it, or nil. No other command can end it.
local function ending(sql)
  local words = first_words(sql, 3)
  if words[1] == "PREPARE" and words[2] == "TRANSACTION" then
    return "PREPARE TRANSACTION"
  elseif words[1] == "ROLLBACK" and (words[2] == "TO" or (NOISE[words[2]] and words[3] == "TO")) then
    return nil
  end
  return ENDS[words[1]] and words[1] or nil
end

--- Checks a statement that the function of a transaction wants to run.
-- @return nil; or a message when the statement would end the transaction
function session_effects.check_inside(sql)
  local word = ending(sql)
  return word and word .. " is refused in the function of a transaction, because the transaction ends with its "
    .. "function; to roll back, return nil and a message" or nil
end

--- Notes in `state` what the statement leaves behind: sets `needs_reset` to true if that may be anything, and `tag` to
-- the first word of the command tag. The command tag is nil if the statement failed.
-- @return nil; or message, code when the statement is refused in a session of the pool
function session_effects.note(state, sql, tag)
  if find(sql, LOCK) or find(sql, SETTING) then
    state.needs_reset = true
  end
  local word = tag and match(tag, "^%u*")
  state.tag = word
  if not word then
    return nil
  end
  local is_local = word == "SET" and (find(sql, SET_LOCAL) or find(sql, SET_TRANSACTION))
  if not HARMLESS[word] and not is_local then
    state.needs_reset = true
  end
  if word == "LISTEN" then
    return "LISTEN is refused on a connection of the pool: another job gets the connection next, and the "
      .. "notifications would be lost; let a trigger enqueue a job instead", "0A000"
  end
end

return session_effects
