// The rows of tests/bench/engine/workload.cc again, number by number, and the same results by
// @tanstack/db-ivm. Events are [input, row, weight].
import {
  D2,
  concat,
  distinct,
  filter,
  groupBy,
  groupByOperators,
  join,
  map,
  output,
  reduce
} from '@tanstack/db-ivm'

const { count, max, min, sum } = groupByOperators

function mulberry32() {
  let state = 42
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return (t ^ (t >>> 14)) >>> 0
  }
}

/** load() yields the events of the load; update(out) appends those of one update. */
function filterRows(size) {
  const random = mulberry32()
  const rows = []
  const draw = (id) => [id, id % 1000, random() & 3, random() % 1000000]
  return {
    *load() {
      for (let id = 0; id < size; ++id) yield [0, (rows[id] = draw(id)), 1]
    },
    update(out) {
      const id = random() % size
      out.push([0, rows[id], -1], [0, (rows[id] = draw(id)), 1])
    }
  }
}

function endpoints(size) {
  const random = mulberry32()
  const services = Math.max(1, Math.floor(size / 10))
  const pods = []
  return {
    *load() {
      for (let id = 0; id < services; ++id) yield [0, [id], 1]
      for (let id = 0; id < size; ++id) {
        pods[id] = [id, random() % services, random() % 10 !== 0 ? 1 : 0, random()]
        yield [1, pods[id], 1]
      }
    },
    update(out) {
      const id = random() % size
      const moves = random() % 10 === 0
      const running = random() % 10 !== 0 ? 1 : 0
      const address = random()
      const service = moves ? random() % services : pods[id][1]
      out.push([1, pods[id], -1], [1, (pods[id] = [id, service, running, address]), 1])
    }
  }
}

function groups(size, number) {
  const random = mulberry32()
  const rows = []
  const draw = (id) => [id, random() % number, random() % 1000000]
  return {
    *load() {
      for (let id = 0; id < size; ++id) yield [0, (rows[id] = draw(id)), 1]
    },
    update(out) {
      const id = random() % size
      out.push([0, rows[id], -1], [0, (rows[id] = draw(id)), 1])
    }
  }
}

function reconciliation(size) {
  const random = mulberry32()
  const cells = Math.floor(size / 2)
  const desired = []
  const observed = []
  const device = (i) => Math.floor(i / 50)
  const desire = (i, weight, out) => {
    out.push([0, [1, device(i), i % 50, desired[i]], weight])
    if (i % 10 === 0) out.push([0, [2, device(i), i % 50, desired[i]], weight])
  }
  const observe = (i, weight, out) => out.push([1, [device(i), i % 50, observed[i]], weight])
  return {
    *load() {
      for (let i = 0; i < cells; ++i) {
        const out = []
        desired[i] = random() % 1000
        desire(i, 1, out)
        const fate = random() % 100
        observed[i] = fate === 0 ? random() % 1000 : desired[i]
        observe(i, 1, out)
        if (fate === 1) out.push([1, [device(i), 1000 + (i % 50), 0], 1])
        yield* out
      }
    },
    update(out) {
      const observation = random() % 10 < 9
      const i = random() % cells
      if (observation) {
        const value = random() % 2 === 0 ? desired[i] : random() % 1000
        observe(i, -1, out)
        observed[i] = value
        observe(i, 1, out)
      } else {
        const value = random() % 1000
        desire(i, -1, out)
        desired[i] = value
        desire(i, 1, out)
      }
    }
  }
}

function auctions(size) {
  const random = mulberry32()
  let time = 0
  let people = 0
  let made = 0
  const recent = (span, number) => Math.max(0, number - 1 - (random() % span))
  const next = () => {
    const now = time++
    const place = now % 50
    if (place === 0) {
      people = now / 50 + 1
      return [0, [now / 50, random() % 6], 1]
    }
    if (place <= 3) {
      const seller = recent(1000, people)
      const category = 10 + (random() % 5)
      return [1, [made++, seller, category, now, now + 1 + (random() % 2000)], 1]
    }
    const auction = recent(100, made)
    return [2, [auction, 1 + (random() % 10000), now], 1]
  }
  return {
    *load() {
      while (time < size) yield next()
    },
    update(out) {
      out.push(next())
    }
  }
}

const cell = (d, k, v) => (d * 2000 + k) * 1000 + v

/** Pipelines from inputs to a stream of words. */
const pipelines = {
  W1: ([rows]) =>
    rows.pipe(
      filter((r) => r[2] === 0),
      map((r) => [r[0], r[3] * 2 + 1])
    ),
  W2: ([services, pods]) =>
    services.pipe(
      map((s) => [s[0], null]),
      join(
        pods.pipe(
          filter((p) => p[2] === 1),
          map((p) => [p[1], p[3]])
        ),
        'inner'
      ),
      map(([id, [, address]]) => [id, address]),
      reduce((values) => {
        const list = values.flatMap(([address, times]) => Array(times).fill(address))
        return list.length > 0 ? [[list.sort((a, b) => a - b), 1]] : []
      }),
      map(([id, list]) => [id, list.length, ...list])
    ),
  W3: ([rows]) =>
    rows.pipe(
      groupBy((r) => ({ g: r[1] }), {
        c: count(),
        s: sum((r) => r[2]),
        lo: min((r) => r[2]),
        hi: max((r) => r[2])
      }),
      map(([, x]) => [x.g, x.c, x.s >>> 0, Math.floor(x.s / 2 ** 32), x.lo, x.hi])
    ),
  W4: ([desired, observed]) => {
    const want = desired.pipe(
      map(([, d, k, v]) => [cell(d, k, v), [d, k, v]]),
      distinct()
    )
    const keys = desired.pipe(
      map(([, d, k]) => [cell(d, k, 0), [d, k]]),
      distinct()
    )
    const toWrite = want.pipe(
      map(([, r]) => [cell(...r), r]),
      join(observed.pipe(map((r) => [cell(...r), null])), 'anti'),
      map(([, [r]]) => [0, ...r])
    )
    const toDelete = observed.pipe(
      map(([d, k]) => [cell(d, k, 0), [d, k]]),
      join(keys.pipe(map(([, [d, k]]) => [cell(d, k, 0), null])), 'anti'),
      map(([, [r]]) => [1, ...r])
    )
    return toWrite.pipe(concat(toDelete))
  },
  Q3: ([people, auctions]) =>
    auctions.pipe(
      filter((a) => a[2] === 10),
      map((a) => [a[1], a[0]]),
      join(
        people.pipe(
          filter((p) => p[1] < 3),
          map((p) => [p[0], p[1]])
        ),
        'inner'
      ),
      map(([seller, [auction, state]]) => [auction, seller, state])
    ),
  Q4: ([, auctions, bids]) =>
    auctions.pipe(
      map((a) => [a[0], a]),
      join(bids.pipe(map((b) => [b[0], b])), 'inner'),
      filter(([, [a, b]]) => b[2] >= a[3] && b[2] <= a[4]),
      groupBy(([id, [a]]) => ({ id, cat: a[2] }), { top: max(([, [, b]]) => b[1]) }),
      groupBy(([, x]) => ({ cat: x.cat }), { s: sum(([, x]) => x.top), n: count() }),
      map(([, x]) => [x.cat, Math.floor(x.s / x.n)])
    )
}
pipelines.W3h = pipelines.W3

const generators = {
  W1: filterRows,
  W2: endpoints,
  W3: (size) => groups(size, Math.floor(size / 100)),
  W3h: (size) => groups(size, 10),
  W4: reconciliation,
  Q3: auctions,
  Q4: auctions
}

export function makeGenerator(workload, size) {
  return generators[workload](size)
}

/** Calls onChange(words, weight) for each change of the result. */
export function makeGraph(workload, onChange) {
  const graph = new D2()
  const inputs = [graph.newInput(), graph.newInput(), graph.newInput()]
  pipelines[workload](inputs).pipe(
    output((message) => {
      for (const [words, weight] of message.getInner()) onChange(words, weight)
    })
  )
  graph.finalize()
  return { graph, inputs }
}
