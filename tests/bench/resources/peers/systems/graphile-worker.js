import { Logger, makeWorkerUtils, run } from "graphile-worker";

import { describe } from "./postgres.js";
import { installed } from "./version.js";

const POOL_SIZE = 32;
const quiet = new Logger(() => () => {});

export async function open(server) {
  const preset = { worker: { connectionString: server, maxPoolSize: POOL_SIZE } };
  const utils = await makeWorkerUtils({ preset, logger: quiet });
  await utils.migrate();
  let runner;
  return {
    description: `${installed("graphile-worker")}, ${await describe(server)}, defaults`,
    add: (payload) => utils.addJob("job", payload),
    addMany: (payloads) => utils.addJobs(payloads.map((p) => ({ identifier: "job", payload: p }))),
    clear: () =>
      utils.withPgClient((client) => client.query("TRUNCATE graphile_worker._private_jobs")),
    drainMost: (parallelism) => 2000 * parallelism,
    start: async (parallelism, handle) => {
      runner = await run({
        preset: { worker: { ...preset.worker, concurrentJobs: parallelism } },
        logger: quiet,
        noHandleSignals: true,
        taskList: { job: async (payload) => handle(payload) },
      });
    },
    stop: () => runner.stop(),
    close: () => utils.release(),
  };
}
