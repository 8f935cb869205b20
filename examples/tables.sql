-- The tables of the examples with queries.  Run:  psql "$(pgq-lua dev conninfo)" -f examples/tables.sql
CREATE TABLE users (
  email text PRIMARY KEY,
  name text NOT NULL
);

CREATE TABLE accounts (
  name text PRIMARY KEY,
  cents bigint NOT NULL CONSTRAINT enough CHECK (cents >= 0)
);

INSERT INTO users VALUES ('ann@example.com', 'Ann');
INSERT INTO accounts VALUES ('ann', 1000), ('ben', 0);
