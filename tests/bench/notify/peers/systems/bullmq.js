import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";

import { installed } from "./version.js";

const CONCURRENCY = 64;

// "Redis 7.0.15 appendonly=yes appendfsync=everysec": what the server says.
async function describe(redis) {
  const version = /redis_version:(\S+)/.exec(await redis.info("server"))[1];
  const show = async (name) => (await redis.config("GET", name)).join("=");
  return `Redis ${version} ${await show("appendonly")} ${await show("appendfsync")}`;
}

export async function open(server, handle) {
  const { hostname: host, port } = new URL(server);
  const connect = () => new Redis({ host, port: Number(port), maxRetriesPerRequest: null });
  const connections = [connect(), connect()];
  const queue = new Queue("jobs", {
    connection: connections[0],
    defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
  });
  const worker = new Worker("jobs", async () => handle(), {
    connection: connections[1],
    concurrency: CONCURRENCY,
  });
  await worker.waitUntilReady();
  return {
    description:
      `${installed("bullmq")}, ${await describe(connections[0])}, concurrency ${CONCURRENCY}`,
    enqueue: (payload) => queue.add("job", payload),
    close: async () => {
      await worker.close();
      await queue.obliterate({ force: true });
      await queue.close();
      connections.forEach((connection) => connection.disconnect());
    },
  };
}
