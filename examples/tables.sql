-- The tables of the examples that use queries. Tables and rows that exist already stay unchanged.
-- Run:      psql "$(pgq-lua dev conninfo)" -f examples/tables.sql
CREATE TABLE IF NOT EXISTS users (
  email text PRIMARY KEY,
  name text NOT NULL
);

CREATE TABLE IF NOT EXISTS accounts (
  name text PRIMARY KEY,
  cents bigint NOT NULL CHECK (cents >= 0)
);

INSERT INTO users VALUES ('ann@example.com', 'Ann') ON CONFLICT DO NOTHING;
INSERT INTO accounts VALUES ('ann', 1000), ('ben', 0) ON CONFLICT DO NOTHING;
