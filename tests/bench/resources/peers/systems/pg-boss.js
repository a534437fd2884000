import PgBoss from "pg-boss";

import { describe } from "./postgres.js";
import { installed } from "./version.js";

const POLLING_SECONDS = 0.5; // the least it takes
const POOL_SIZE = 32;

export async function open(server) {
  const boss = new PgBoss({ connectionString: server, max: POOL_SIZE });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  await boss.createQueue("jobs");
  return {
    description: `${installed("pg-boss")}, ${await describe(server)}, poll ${POLLING_SECONDS} s`,
    add: (payload) => boss.send("jobs", payload),
    addMany: (payloads) => boss.insert(payloads.map((data) => ({ name: "jobs", data }))),
    clear: () => boss.purgeQueue("jobs"),
    // It takes a batch of this size each time it polls.
    drainMost: (parallelism) => 20 * parallelism,
    start: (parallelism, handle) =>
      boss.work("jobs", { batchSize: parallelism, pollingIntervalSeconds: POLLING_SECONDS }, async (jobs) =>
        jobs.forEach((job) => handle(job.data)),
      ),
    stop: () => boss.offWork("jobs"),
    close: () => boss.stop({ graceful: false, wait: true }),
  };
}
