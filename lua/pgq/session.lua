-- What a statement leaves behind in its session, as far as its text and the server's word for what it has done tell.
--
-- A handler may change globals: what is needed later is kept here when the module is loaded.

local find, match = string.find, string.match

local session = {}

-- Statements that leave nothing, by the first word of the command tag. All others may: SET, PREPARE, temporary tables …
local CLEAN = {
  [""] = true, ANALYZE = true, BEGIN = true, CHECKPOINT = true, COMMIT = true, COPY = true, DELETE = true,
  EXPLAIN = true, FETCH = true, INSERT = true, LOCK = true, MERGE = true, MOVE = true, NOTIFY = true, REFRESH = true,
  RELEASE = true, ROLLBACK = true, SAVEPOINT = true, SELECT = true, SHOW = true, START = true, TRUNCATE = true,
  UPDATE = true, VACUUM = true,
}

-- Functions whose effect outlives the transaction, also of a statement that fails.
local LOCK = "[aA][dD][vV][iI][sS][oO][rR][yY]_[lL][oO][cC][kK]"
local SETTING = "[sS][eE][tT]_[cC][oO][nN][fF][iI][gG]"

-- A SET that ends with its transaction.
local SET_LOCAL = "^%s*[sS][eE][tT]%s+[lL][oO][cC][aA][lL]%s"
local SET_TRANSACTION = "^%s*[sS][eE][tT]%s+[tT][rR][aA][nN][sS]"

--- Notes in `state` what the statement leaves behind: `soiled` is set to true if that may be anything, `tag` to the
-- first word of what the server has done. The command tag is nil for a statement that failed.
-- @return nothing; or a message and a code for a statement that is not to be used in such a session
function session.note(state, sql, tag)
  if find(sql, LOCK) or find(sql, SETTING) then
    state.soiled = true
  end
  local word = tag and match(tag, "^%u*")
  state.tag = word
  if not word then
    return nil
  end
  local is_local = word == "SET" and (find(sql, SET_LOCAL) or find(sql, SET_TRANSACTION))
  if not CLEAN[word] and not is_local then
    state.soiled = true
  end
  if word == "LISTEN" then
    return "LISTEN is refused on a connection of the pool: another job has it next, and nobody would get the "
      .. "notifications; let a trigger enqueue a job instead", "0A000"
  end
end

return session
