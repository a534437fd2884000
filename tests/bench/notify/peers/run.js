// Measures one job system: enqueues jobs with 64 in flight while it works them, in this process.
//   node run.js SYSTEM SERVER SERVER_PID COUNT
// SYSTEM is a file of systems/, SERVER the URL of the server that it needs. Prints one line of JSON:
//   {"system": what was measured, "jobs_per_s": ..., "client_us": CPU per job, "server_us": ...}
import { readFileSync } from "node:fs";

const IN_FLIGHT = 64;
const WARM_UP = 2000; // jobs, not measured: V8 compiles, servers open their files
const TICKS_PER_SECOND = 100; // of /proc, the same on all that Debian runs on

// CPU time of a process, of its children, and of those that it has waited for: PostgreSQL has a
// process for each connection.
function cpuMicroseconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name, in brackets, may hold anything; utime, stime, cutime, cstime are fields 11 to 14
  // behind it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ");
  return children
    .filter((child) => child !== "")
    .reduce((sum, child) => sum + cpuMicroseconds(child), (ticks * 1e6) / TICKS_PER_SECOND);
}

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

async function enqueue(system, count) {
  let next = 0;
  async function oneByOne() {
    while (next < count) {
      const number = next++;
      await system.enqueue({ id: `p${number}`, current_song: "*".repeat(100), plays: 0 });
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, oneByOne));
}

async function main() {
  const [name, server, serverPid, countText] = process.argv.slice(2);
  const count = Number(countText);
  const { open } = await import(`./systems/${name}.js`);
  const handled = new Handled();
  const system = await open(server, handled.one);

  await Promise.all([enqueue(system, WARM_UP), handled.reach(WARM_UP)]);

  const clientBefore = process.cpuUsage();
  const serverBefore = cpuMicroseconds(serverPid);
  const begin = performance.now();
  await Promise.all([enqueue(system, count), handled.reach(WARM_UP + count)]);
  const seconds = (performance.now() - begin) / 1000;
  const client = process.cpuUsage(clientBefore);
  const serverMicroseconds = cpuMicroseconds(serverPid) - serverBefore;

  await system.close();
  if (handled.count !== WARM_UP + count) {
    throw new Error(`${name} handled ${handled.count} jobs of ${WARM_UP + count}: no figure`);
  }
  console.log(
    JSON.stringify({
      system: system.description,
      jobs_per_s: count / seconds,
      client_us: (client.user + client.system) / count,
      server_us: serverMicroseconds / count,
    }),
  );
}

main().then(
  () => process.exit(0), // some of them leave timers behind
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
