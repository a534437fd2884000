// Measures one job system on PostgreSQL by the figures of the area "resources".
//   node run.js SYSTEM SERVER COUNT
// SYSTEM is a file of systems/, SERVER the URL of PostgreSQL. Prints one line of JSON:
//   {"system": what was measured, "values": {figure: value}}
const BATCH = 500;
const payload = (number) => ({ name: `i${number}`, text: "*".repeat(80), plays: 0 });

const quantile = (values, share) =>
  values.sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))];

// Counts handled jobs and lets one wait for a number of them.
class Handled {
  count = 0;
  #wanted = Infinity;
  #resolve;

  one = () => {
    if (++this.count >= this.#wanted) this.#resolve();
  };

  reach(count) {
    return new Promise((resolve) => {
      this.#wanted = count;
      this.#resolve = resolve;
      if (this.count >= count) resolve();
    });
  }
}

async function rate(count, work) {
  const begin = performance.now();
  await work();
  return (count * 1000) / (performance.now() - begin);
}

// Jobs added one by one, by so many callers at a time.
async function single(system, count, callers) {
  await system.clear();
  let next = 0;
  const caller = async () => {
    while (next < count) await system.add(payload(next++));
  };
  return rate(count, () => Promise.all(Array.from({ length: callers }, caller)));
}

async function drain(system, count, parallelism) {
  await system.clear();
  for (let from = 0; from < count; from += BATCH) {
    await system.addMany(Array.from({ length: Math.min(BATCH, count - from) }, (_, i) => payload(from + i)));
  }
  const handled = new Handled();
  await system.start(parallelism, handled.one);
  const warm = Math.max(1, Math.floor(count / 10));
  await handled.reach(warm);
  const before = handled.count;
  const begin = performance.now();
  await handled.reach(count);
  const value = ((count - before) * 1000) / (performance.now() - begin);
  await system.stop();
  return value;
}

// From the call that adds a job to the call of its handler.
async function latency(system, count, perSecond) {
  await system.clear();
  const sent = new Map();
  const times = [];
  const handled = new Handled();
  await system.start(16, (job) => {
    if (sent.has(job.name)) times.push(performance.now() - sent.get(job.name));
    handled.one();
  });
  await system.add({ name: "warm" });
  await handled.reach(1);
  const begin = performance.now();
  for (let i = 0; i < count; ++i) {
    const due = begin + (i * 1000) / perSecond;
    const left = due - performance.now();
    if (left > 0) await new Promise((resolve) => setTimeout(resolve, left));
    sent.set(`i${i}`, performance.now());
    await system.add(payload(i));
  }
  await handled.reach(count + 1);
  await system.stop();
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
}

async function main() {
  const [name, server, countText] = process.argv.slice(2);
  const count = Number(countText);
  const { open } = await import(`./systems/${name}.js`);
  const system = await open(server);
  const values = {};
  await system.add(payload(0));
  values["inform single 1 caller"] = await single(system, Math.max(100, Math.floor(count / 10)), 1);
  values["inform single"] = await single(system, count, 64);
  await system.clear();
  values["inform batch"] = await rate(count, async () => {
    for (let from = 0; from < count; from += BATCH) {
      await system.addMany(Array.from({ length: BATCH }, (_, i) => payload(from + i)));
    }
  });
  for (const parallelism of [1, 10, 100]) {
    const jobs = Math.min(count, system.drainMost(parallelism));
    values[`work parallelism ${parallelism}`] = await drain(system, jobs, parallelism);
  }
  const idle = await latency(system, Math.max(20, Math.floor(count / 100)), 50);
  values["inform latency p50"] = idle.p50;
  values["inform latency p99"] = idle.p99;
  const busy = await latency(system, Math.max(100, Math.floor(count / 20)), 300);
  values["inform latency 300/s p50"] = busy.p50;
  values["inform latency 300/s p99"] = busy.p99;
  await system.close();
  console.log(JSON.stringify({ system: system.description, values }));
}

main().then(
  () => process.exit(0), // some of them leave timers behind
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
