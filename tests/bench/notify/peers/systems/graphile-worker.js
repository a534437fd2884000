import { Logger, makeWorkerUtils, run } from "graphile-worker";

import { describe } from "./postgres.js";
import { installed } from "./version.js";

const CONCURRENCY = 24;
const LOCAL_QUEUE = 500;
const POOL_SIZE = 32;

const quiet = new Logger(() => () => {});

// Tuned as its documentation advises for throughput: a local queue, and completions in batches.
const preset = (server) => ({
  worker: {
    connectionString: server,
    concurrentJobs: CONCURRENCY,
    maxPoolSize: POOL_SIZE,
    localQueue: { size: LOCAL_QUEUE },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
});

export async function open(server, handle) {
  const utils = await makeWorkerUtils({ preset: preset(server), logger: quiet });
  await utils.migrate();
  const runner = await run({
    preset: preset(server),
    logger: quiet,
    noHandleSignals: true,
    taskList: { job: async () => handle() },
  });
  return {
    description:
      `${installed("graphile-worker")}, ${await describe(server)}, ` +
      `local queue ${LOCAL_QUEUE}, batched complete, concurrency ${CONCURRENCY}`,
    enqueue: (payload) => utils.addJob("job", payload),
    close: async () => {
      await runner.stop();
      await utils.release();
    },
  };
}
