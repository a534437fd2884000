import PgBoss from "pg-boss";

import { describe } from "./postgres.js";
import { installed } from "./version.js";

const WORKERS = 4;
const BATCH = 1000;
const POLLING_SECONDS = 0.5;
const POOL_SIZE = 32;

export async function open(server, handle) {
  const boss = new PgBoss({ connectionString: server, max: POOL_SIZE });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  await boss.createQueue("jobs");
  const options = { batchSize: BATCH, pollingIntervalSeconds: POLLING_SECONDS };
  for (let i = 0; i < WORKERS; ++i) {
    await boss.work("jobs", options, async (jobs) => jobs.forEach(handle));
  }
  return {
    description:
      `${installed("pg-boss")}, ${await describe(server)}, ` +
      `batch ${BATCH} x ${WORKERS} workers, poll ${POLLING_SECONDS} s`,
    enqueue: (payload) => boss.send("jobs", payload),
    close: () => boss.stop({ graceful: false, wait: true }),
  };
}
