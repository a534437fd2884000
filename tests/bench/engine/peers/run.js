// node run.js WORKLOAD SIZE UPDATES BATCHES: the phases of tests/bench/engine/measure.cc on db-ivm.
// Prints the same JSON object as bench_engine --child.
import { readFileSync } from 'node:fs'

import { MultiSet } from '@tanstack/db-ivm'

import { makeGenerator, makeGraph } from './workloads.js'

const kLoadRows = 100000
const kBatchUpdates = 1000

const [workload, size, updates, batches] = [process.argv[2], ...process.argv.slice(3).map(Number)]

const residentBytes = () =>
  1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
const cpuSeconds = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}
const quantile = (sorted, q) => sorted[Math.round((sorted.length - 1) * q)] ?? 0

const checksum = { rows: 0, sum: 0 }
let delivered = []
const { graph, inputs } = makeGraph(workload, (words, weight) => delivered.push([words, weight]))

/** Seconds from handing in the events to having the changes, which are then counted. */
function step(events) {
  delivered = []
  const sets = [[], [], []]
  for (const [input, row, weight] of events) sets[input].push([row, weight])
  const start = process.hrtime.bigint()
  const cpu = cpuSeconds()
  sets.forEach((set, i) => set.length > 0 && inputs[i].sendData(new MultiSet(set)))
  graph.run()
  const cpuTime = cpuSeconds() - cpu
  const time = Number(process.hrtime.bigint() - start) / 1e9
  for (const [words, weight] of delivered) {
    let hash = 0x811c9dc5
    for (const word of words) hash = Math.imul(hash ^ word, 0x01000193)
    checksum.rows += weight
    checksum.sum = (checksum.sum + Math.imul(hash, weight)) >>> 0
  }
  return { time, cpuTime }
}

const result = { rows: 0, load_s: 0, load_cpu_s: 0, updates_cpu_s: 0, report_cpu_s: 0, sums: [], recomputed: [] }
const endPhase = () => result.sums.push([checksum.rows, checksum.sum])

const generator = makeGenerator(workload, size)
const before = residentBytes()
let events = []
const load = () => {
  const { time, cpuTime } = step(events)
  result.rows += events.length
  result.load_s += time
  result.load_cpu_s += cpuTime
  events = []
}
for (const event of generator.load()) {
  events.push(event)
  if (events.length >= kLoadRows) load()
}
if (events.length > 0) load()
delivered = []
global.gc?.()
result.row_bytes = (residentBytes() - before) / result.rows
endPhase()

const times = []
result.max_us = 0
for (let i = 0; i < updates; ++i) {
  events = []
  generator.update(events)
  const { time, cpuTime } = step(events)
  times.push(time * 1e6)
  result.updates_cpu_s += cpuTime
  result.max_us = Math.max(result.max_us, cpuTime * 1e6)
}
times.sort((a, b) => a - b)
result.updates = updates
result.p50_us = quantile(times, 0.5)
result.p99_us = quantile(times, 0.99)
endPhase()

result.batch_s = 0
result.batch_cpu_s = 0
for (let i = 0; i < batches; ++i) {
  events = []
  for (let j = 0; j < kBatchUpdates; ++j) generator.update(events)
  const { time, cpuTime } = step(events)
  result.batch_s += time
  result.batch_cpu_s += cpuTime
}
result.batch_updates = batches * kBatchUpdates
endPhase()
console.log(JSON.stringify(result))
