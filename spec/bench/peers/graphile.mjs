// graphile-worker as the benchmarks run it. $DATABASE_URL is the database; arguments:
//   fill N        makes its tables and N jobs
//   drain N       runs all jobs and exits; prints when the first began and when the last was written
//   serve FILE    runs jobs until SIGTERM; appends how long each waited, in ns, to FILE
import { createWriteStream } from "node:fs";
import { Logger, run, runMigrations, runOnce } from "graphile-worker";
import pg from "pg";

const connectionString = process.env.DATABASE_URL;
// What its page on performance shows, but for the size of the local queue, which is 500 there: with 5000 it is as fast
// on a calm machine, and faster on a busy one. More concurrency, or less, gains nothing for handlers that do not wait.
const worker = {
  connectionString,
  concurrentJobs: 24,
  maxPoolSize: 25,
  localQueue: { size: 5000 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
  logger: new Logger(() => () => {}),
};
const now = () => process.hrtime.bigint();

// Its API makes jobs by this function, too.
const ADD = `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
  SELECT json_populate_record(NULL::graphile_worker.job_spec, json_build_object('identifier', 'bench',
    'payload', json_build_object('n', lpad(n::text, 12, '0')))) FROM generate_series($1::int, $2::int) AS n))`;

async function fill(count) {
  await runMigrations({ preset: { worker } });
  const client = new pg.Client({ connectionString });
  await client.connect();
  for (let at = 1; at <= count; at += 10000) {
    await client.query(ADD, [at, Math.min(count, at + 9999)]);
  }
  await client.end();
}

async function drain(count) {
  let ran = 0;
  let first;
  await runOnce({
    preset: { worker },
    taskList: {
      bench: () => {
        first ??= now();
        ran++;
      },
    },
  });
  const done = now();
  if (ran !== count) {
    throw new Error(`${ran} jobs ran, not ${count}`);
  }
  console.log(`first ${first} done ${done}`);
}

async function serve(path) {
  const out = createWriteStream(path, { flags: "a" });
  const runner = await run({
    preset: { worker },
    taskList: { bench: (payload) => void out.write(`${now() - BigInt(payload.sent)}\n`) },
  });
  console.log("serving");
  await runner.promise;
}

const commands = { fill, drain, serve };
const [command, argument] = process.argv.slice(2);
await commands[command](command === "serve" ? argument : Number(argument));
process.exit(0);
