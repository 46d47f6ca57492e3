/**
 * Rounds of scripts/scaling.ts, and what is counted in each: pages, WAL and calls of the statements (pg_stat_statements, COMMIT
 * included), processor time of the connections (what /proc says of their processes), and the milliseconds of the caller.
 */
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { QUEUES } from './scaling-queues.ts'
import { CONNECTIONS, type Operation, REQUESTS, type Site } from './scaling-work.ts'

export const say = (text: string) => process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`)

const OPERATIONS = [...REQUESTS, ...QUEUES]

/** Each of one request, or one job, or one delivery. */
const FIGURES = ['pages', 'statements', 'cpu_us', 'wal_bytes', 'wal_images', 'ms'] as const
type Figure = (typeof FIGURES)[number]
type Counted = Record<Figure, number>
/** Of each operation and size, a list of the rounds. */
export type Measured = Map<string, Map<number, Counted[]>>

export async function measureAll(sites: Site[], rounds: number, count: number): Promise<Measured> {
  const all: Measured = new Map()
  for (const { prepare } of OPERATIONS) {
    for (const site of sites) await (await prepare(site, count))() // warms code and connections, not the tables
  }
  for (let round = 0; round < rounds; round++) {
    for (const operation of OPERATIONS) {
      const { name } = operation
      for (const site of inTurn(sites, round)) {
        const counted = await countOne(site, count, operation)
        const bySize = all.get(name) ?? new Map<number, Counted[]>()
        all.set(name, bySize.set(site.size, [...(bySize.get(site.size) ?? []), counted]))
      }
    }
    say(`round ${round + 1} of ${rounds}`)
  }
  return all
}

/** Whoever comes first in one round comes last in the next. */
const inTurn = (sites: Site[], round: number) => (round % 2 === 0 ? sites : [...sites].reverse())

async function countOne(site: Site, count: number, { prepare }: Operation): Promise<Counted> {
  await (await prepare(site, CONNECTIONS))() // connections that were idle for a while were closed, and new ones know nothing
  const run = await prepare(site, count)
  const before = await snapshot(site)
  const ms = median(await run())
  await sleep(20)
  const after = await snapshot(site)
  const each = (name: string) => (Number(after.totals[name]) - Number(before.totals[name])) / count
  const cpu = [...after.cpu].reduce((sum, [pid, us]) => sum + us - (before.cpu.get(pid) ?? 0), 0)
  return {
    pages: each('pages'),
    statements: each('statements'),
    cpu_us: cpu / count,
    wal_bytes: each('wal_bytes'),
    wal_images: each('wal_images'),
    ms,
  }
}

/** Of all connections of the server and of the pool, but not of the one that asks. */
async function snapshot({ sql }: Site) {
  const { rows } = await sql.query<Record<string, string>>(
    `select sum(shared_blks_hit + shared_blks_read) as pages, sum(calls) as statements, sum(wal_bytes) as wal_bytes,
       sum(wal_fpi) as wal_images
     from pg_stat_statements where query !~ 'pg_stat|scaling|gen_random_uuid|vacuum'
       and dbid = (select oid from pg_database where datname = current_database())`,
  )
  const { rows: processes } = await sql.query<{ pid: number }>(
    `select pid from pg_stat_activity where datname = current_database() and application_name = 'satchel'`,
  )
  const cpu = new Map<number, number>()
  for (const { pid } of processes) {
    const spent = await readFile(`/proc/${pid}/schedstat`, 'utf8').catch(() => undefined) // closed meanwhile
    if (spent !== undefined) cpu.set(pid, Number(spent.split(' ')[0]) / 1000)
  }
  return { totals: rows[0] ?? {}, cpu }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

/** A table for each figure: medians of the rounds, and against the first size the median of the rounds' ratios. */
export function printMeasured(sites: Site[], measured: Measured): void {
  const sizes = sites.map(({ size }) => size)
  const [smallest = 0, ...others] = sizes
  for (const figure of FIGURES) {
    const head = [figure, ...sizes, ...others.map((size) => `${size} : ${smallest}`)]
    console.log(`\n| ${head.join(' | ')} |\n|---${'|--:'.repeat(head.length - 1)}|`)
    for (const [name, bySize] of measured) {
      const at = (size: number) => (bySize.get(size) ?? []).map((counted) => counted[figure])
      const digits = figure === 'cpu_us' || figure === 'wal_bytes' ? 0 : 1
      const start = at(smallest)
      // Round against the same round: they ran right after one another.
      const ratios = others.map((size) => median(at(size).map((value, round) => value / (start[round] ?? Number.NaN))))
      const cells = [
        ...sizes.map((size) => median(at(size)).toFixed(digits)),
        ...ratios.map((ratio) => ratio.toFixed(2)),
      ]
      console.log(`| ${name} | ${cells.join(' | ')} |`)
    }
  }
}
