// pg-boss as the benchmarks run it. $DATABASE_URL is the database; arguments:
//   fill N        makes its tables and N jobs
//   drain N       runs all jobs and exits; prints when the first began and when the last was written
//   serve FILE    runs jobs until SIGTERM; appends how long each waited, in ns, to FILE
//   send N SEED   enqueues N jobs one by one, with the waits of spec/bench/sender.lua; prints how long each send took
import { createWriteStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { PgBoss } from "pg-boss";

const connectionString = process.env.DATABASE_URL;
const now = () => process.hrtime.bigint();

// Housekeeping and cron off: nothing of that is measured.
async function start(options) {
  const boss = new PgBoss({ connectionString, supervise: false, schedule: false, ...options });
  boss.on("error", (error) => {
    console.error(error);
    process.exit(1);
  });
  await boss.start();
  return boss;
}

async function fill(count) {
  const boss = await start();
  await boss.createQueue("bench", { notify: true });
  for (let at = 1; at <= count; at += 10000) {
    const jobs = [];
    for (let n = at; n < at + 10000 && n <= count; n++) {
      jobs.push({ data: { n: String(n).padStart(12, "0") } });
    }
    await boss.insert("bench", jobs);
  }
  await boss.stop({ graceful: false });
}

// One batch is written while others are fetched; full batches follow each other without a wait. Batches of 500 to 5000
// by one to eight workers are no faster.
const FAST = { batchSize: 1000, burstWhenBatchFull: true, localConcurrency: 4, pollingIntervalSeconds: 0.5 };

async function drain(count) {
  const boss = await start();
  let ran = 0;
  let first;
  await new Promise((resolve) => {
    boss.work("bench", FAST, async (jobs) => {
      first ??= now();
      for (const job of jobs) {
        ran += job.data ? 1 : 0;
      }
      if (ran >= count) {
        resolve();
      }
    });
  });
  await boss.offWork("bench", { wait: true }); // till what runs is written
  console.log(`first ${first} done ${now()}`);
  await boss.stop({ graceful: false });
}

async function serve(path) {
  const out = createWriteStream(path, { flags: "a" });
  const boss = await start({ useListenNotify: true });
  await boss.createQueue("bench", { notify: true });
  await boss.work("bench", { pollingIntervalSeconds: 0.5 }, async ([job]) => {
    out.write(`${now() - BigInt(job.data.sent)}\n`);
  });
  console.log("serving");
  await new Promise((resolve) => process.once("SIGTERM", resolve));
}

async function send(count, seed) {
  const boss = await start();
  let state = seed;
  const random = () => (state = (state * 16807) % 2147483647) / 2147483647;
  for (let i = 0; i < count; i++) {
    await sleep(60 - 40 * Math.log(random()));
    const began = now();
    await boss.send("bench", { sent: String(began) });
    console.log(String(now() - began));
  }
}

const commands = { fill, drain, serve, send };
const [command, ...rest] = process.argv.slice(2);
await commands[command](...(command === "serve" ? rest : rest.map(Number)));
process.exit(0);
