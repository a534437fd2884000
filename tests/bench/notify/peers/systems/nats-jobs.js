import { connect, JSONCodec } from "nats";
import { jobProcessor } from "nats-jobs";

import { installed } from "./version.js";

const STREAM = "NATS_JOBS";
const BATCH = 1000;
const PULL_INTERVAL_MS = 200;

export async function open(server, handle) {
  const connection = await connect({ servers: server });
  const manager = await connection.jetstreamManager();
  const processor = await jobProcessor({ servers: server });
  processor.start({
    stream: STREAM,
    filterSubject: STREAM, // without one it asks for a consumer in a way that the server refuses
    batch: BATCH,
    pullInterval: PULL_INTERVAL_MS,
    perform: async () => handle(),
  });
  // start() creates the stream, and nothing tells when it is there.
  while (!(await streamNames(manager)).includes(STREAM)) await new Promise(setImmediate);
  const jetstream = connection.jetstream();
  const codec = JSONCodec();
  return {
    description:
      `${installed("nats-jobs")}, nats-server ${connection.info.version}, ` +
      `batch ${BATCH} / ${PULL_INTERVAL_MS} ms`,
    enqueue: (payload) => jetstream.publish(STREAM, codec.encode(payload)),
    close: async () => {
      await processor.stop();
      await manager.streams.delete(STREAM);
      await connection.close();
    },
  };
}

async function streamNames(manager) {
  const names = [];
  for await (const name of manager.streams.names()) names.push(name);
  return names;
}
