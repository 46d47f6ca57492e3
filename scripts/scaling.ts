/**
 * What a request costs while the tables grow: `npm run scaling -- --sizes 10000,1000000` prints the tables of docs/scaling.md.
 * One PostgreSQL, one database and one real server for each size, filled with generated rows; then rounds that take the sizes
 * in turn, so that whatever else the machine does weighs on all of them alike.
 * `--server URL` uses a PostgreSQL that runs, changes its settings, and finds databases filled earlier there again.
 * Sizes are multiples of 10,000; `--messages` caps the messages beside them.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { openPostgres } from '../src/db/postgres.ts'
import type { Opened } from '../src/db/schema.ts'
import { claim, finish } from '../src/jobs/jobs.ts'
import { claimDeliveries } from '../src/webhooks/claim.ts'
import { type Postgres, startPostgres } from '../test/support/postgres.ts'
import { type Server, startServer } from '../test/support/satchel.ts'
import { createScaffold, fillSteps, INDEXES_LEFT_OUT, type Sizes } from './scaling-rows.ts'

const CONNECTIONS = 8
const API_KEY = 'satchel_scaling'
const LINE = '+12025550142'
const HEADERS = { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' }
const TABLES = [
  'attachments',
  'messages',
  'message_parts',
  'chats',
  'chat_handles',
  'jobs',
  'events',
  'webhook_deliveries',
]

type Site = Sizes & {
  server: Server
  opened: Opened
  sql: pg.Client
  files: string
  partner: string
  fillSeconds: number
}
type Target = { path: string; body?: unknown; method?: string; cdn?: boolean; expect: number }
type Operation = { name: string; targets(site: Site, count: number): Promise<Target[]> }
type Figures = { ms: number[]; perSecond: number[]; wal: number[] }

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      sizes: { type: 'string', default: '10000,1000000' },
      rounds: { type: 'string', default: '25' },
      requests: { type: 'string', default: '40' },
      messages: { type: 'string', default: 'Infinity' },
      server: { type: 'string' },
      'fill-only': { type: 'boolean', default: false },
    },
  })
  const sizes = values.sizes.split(',').map(Number)
  if (!sizes.every((size) => size > 0 && size % 10_000 === 0)) throw new Error('--sizes: multiples of 10000')
  const began = Date.now()
  const own = values.server === undefined ? await startPostgres() : undefined
  const sites: Site[] = []
  try {
    const base = values.server ?? (own as Postgres).url()
    await settings(base)
    for (const size of sizes)
      sites.push(await openSite(base, { size, messages: Math.min(size, Number(values.messages)) }))
    if (values['fill-only']) return
    const measured = await measureAll(sites, Number(values.rounds), Number(values.requests))
    print(sites, measured)
    for (const site of sites) await printSizes(site)
    for (const site of sites) await printPlans(site)
    console.log(`\nAll of it: ${((Date.now() - began) / 1000).toFixed(0)} s`)
  } finally {
    for (const { server, opened, sql, files } of sites) {
      await sql.end()
      await opened[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
      await rm(files, { recursive: true })
    }
    await own?.[Symbol.asyncDispose]()
  }
}

const say = (text: string) => process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`)

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  return client
}

/** No checkpoint and no autovacuum in the middle; all else is PostgreSQL's default, 128 MB of shared buffers included. */
async function settings(url: string): Promise<void> {
  const client = await connect(url)
  for (const [name, value] of Object.entries({
    max_wal_size: '16GB',
    checkpoint_timeout: '1h',
    autovacuum: 'off',
    maintenance_work_mem: '512MB',
  })) {
    await client.query(`alter system set ${name} = '${value}'`)
  }
  await client.query('select pg_reload_conf()')
  await client.end()
}

/** The jobs that sends leave stay where they are: no worker runs, so that a request costs what the request costs. */
async function openSite(base: string, { size, messages }: Sizes): Promise<Site> {
  const name = `scaling_${size}`
  const url = Object.assign(new URL(base), { pathname: `/${name}` }).href
  const admin = await connect(base)
  const found = await admin.query('select 1 from pg_database where datname = $1', [name])
  if (found.rowCount === 0) await admin.query(`create database ${name}`)
  await admin.end()
  const files = await mkdtemp(join(tmpdir(), 'satchel-scaling-'))
  const server = await startServer({
    role: 'api,edge',
    env: {
      SATCHEL_STORAGE_URL: `file:${files}`,
      SATCHEL_DATABASE_URL: url,
      SATCHEL_API_KEY: API_KEY,
      SATCHEL_PHONE_NUMBERS: LINE,
    },
  })
  const opened = await openPostgres(url, { poolSize: CONNECTIONS })
  const sql = await connect(url)
  const { rows } = await sql.query<{ partner_id: string }>(
    'select partner_id from phone_numbers where phone_number = $1',
    [LINE],
  )
  const partner = rows[0]?.partner_id ?? ''
  const { rows: known } = await sql.query<{ note: string | null }>(
    `select shobj_description(oid, 'pg_database') as note from pg_database where datname = $1`,
    [name],
  )
  let fillSeconds = Number(known[0]?.note ?? 0)
  if (fillSeconds === 0) {
    fillSeconds = await fill(url, { size, messages, partner })
    await sql.query(`comment on database ${name} is '${fillSeconds}'`)
  }
  return { size, messages, server, opened, sql, files, partner, fillSeconds }
}

/** Seconds that it took. Four connections; foreign keys are not checked, and indexes on other columns are built at the end. */
async function fill(url: string, o: Sizes & { partner: string }): Promise<number> {
  const began = Date.now()
  const sql = await connect(url)
  await sql.query(createScaffold({ ...o, line: LINE, now: began }))
  const { rows: indexes } = await sql.query<{ name: string; definition: string }>(
    'select indexname as name, indexdef as definition from pg_indexes where indexname = any($1)',
    [INDEXES_LEFT_OUT],
  )
  for (const { name } of indexes) await sql.query(`drop index ${name}`)
  await Promise.all(
    fillSteps(o).map(async (steps) => {
      const lane = await connect(url)
      await lane.query('set session_replication_role = replica')
      await lane.query('set synchronous_commit = off')
      for (const { about, text } of steps) {
        const start = Date.now()
        await lane.query(text)
        say(`${o.size}: ${about} ${((Date.now() - start) / 1000).toFixed(1)} s`)
      }
      await lane.end()
    }),
  )
  const halves = [indexes.filter((_, at) => at % 2 === 0), indexes.filter((_, at) => at % 2 === 1)]
  await Promise.all(
    halves.map(async (half) => {
      const lane = await connect(url)
      await lane.query(`set maintenance_work_mem = '512MB'`)
      for (const { definition } of half) await lane.query(definition)
      await lane.end()
    }),
  )
  say(`${o.size}: indexes built`)
  await sql.query('vacuum analyze')
  await sql.query('checkpoint')
  await sql.end()
  const seconds = Math.max(1, Math.round((Date.now() - began) / 1000))
  say(`${o.size}: filled in ${seconds} s`)
  return seconds
}

/** Ids are computed, never looked up: a look-up would bring into the cache what is to be measured. */
const targetsBy =
  (where: string, make: (row: Drawn, site: Site) => Target) =>
  async (site: Site, count: number): Promise<Target[]> => {
    const { rows } = await site.sql.query<Drawn>(
      `select i::int, scaling.attachment_id(i) as attachment, scaling.chat_id(scaling.chat_of(i)) as chat,
         scaling.time_of(scaling.messages() / 2) as middle
       from (select floor(random() * scaling.size())::bigint as i from generate_series(1, $1)) as drawn
       where scaling.is_main(scaling.chat_of(i)) and ${where} limit $2`,
      [count * 20, count],
    )
    if (rows.length < count) throw new Error(`drew only ${rows.length} of ${count} targets`)
    return rows.map((row) => make(row, site))
  }
type Drawn = { i: number; attachment: string; chat: string; middle: string }

const ANY = 'true'
const COMPLETE = 'scaling.is_complete(i)'
/** Chats of a hundred messages and more, so that every page is full. */
const LONG = 'scaling.chat_of(i) % 925 < 25'
const cursor = (row: Drawn) =>
  Buffer.from(`${Number(row.middle)}.01900000-0000-7000-8000-000000000000`).toString('base64url')
const send = (chat: string, parts: unknown[]): Target => ({
  path: `/v3/chats/${chat}/messages`,
  body: { message: { parts } },
  expect: 202,
})

const OPERATIONS: Operation[] = [
  {
    name: 'create an attachment',
    targets: targetsBy(ANY, ({ i }) => ({
      path: '/v3/attachments',
      body: { filename: `IMG_${i}.jpg`, content_type: 'image/jpeg', size_bytes: 250_000 },
      expect: 200,
    })),
  },
  {
    name: 'get an attachment',
    targets: targetsBy(ANY, ({ attachment }) => ({ path: `/v3/attachments/${attachment}`, expect: 200 })),
  },
  { name: 'send a text', targets: targetsBy(ANY, ({ chat }) => send(chat, [{ type: 'text', value: 'On my way' }])) },
  {
    name: 'send an attachment',
    targets: targetsBy(COMPLETE, ({ chat, attachment }) => send(chat, [{ type: 'media', attachment_id: attachment }])),
  },
  {
    name: 'list messages, first page (50)',
    targets: targetsBy(LONG, ({ chat }) => ({ path: `/v3/chats/${chat}/messages?limit=50`, expect: 200 })),
  },
  {
    name: 'list messages, deep page (50)',
    targets: targetsBy(LONG, (row) => ({
      path: `/v3/chats/${row.chat}/messages?limit=50&cursor=${cursor(row)}`,
      expect: 200,
    })),
  },
  { name: 'list chats, first page (20)', targets: targetsBy(ANY, () => ({ path: '/v3/chats?limit=20', expect: 200 })) },
  {
    name: 'list chats, deep page (20)',
    targets: targetsBy(ANY, (row) => ({ path: `/v3/chats?limit=20&cursor=${cursor(row)}`, expect: 200 })),
  },
  {
    name: 'CDN look-up (HEAD)',
    targets: targetsBy(COMPLETE, ({ i, attachment }, { partner }) => ({
      path: `/attachments/partners/${partner}/${attachment}/IMG_${i}.jpg`,
      method: 'HEAD',
      cdn: true,
      expect: 200,
    })),
  },
]
const JOB = 'claim and finish a job'
const WEBHOOK = 'webhook claim, nothing due'

type Measured = Map<string, Map<number, Figures>>

async function measureAll(sites: Site[], rounds: number, requests: number): Promise<Measured> {
  const all: Measured = new Map()
  const note = (name: string, size: number, one: { ms: number; perSecond: number; wal: number }) => {
    const bySize = all.get(name) ?? new Map<number, Figures>()
    all.set(name, bySize)
    const figures = bySize.get(size) ?? { ms: [], perSecond: [], wal: [] }
    bySize.set(size, figures)
    figures.ms.push(one.ms)
    figures.perSecond.push(one.perSecond)
    figures.wal.push(one.wal)
  }
  for (const operation of OPERATIONS) {
    for (const site of sites) await batch(site, await operation.targets(site, 40)) // warms the code, not the tables
  }
  for (let round = 0; round < rounds; round++) {
    for (const operation of OPERATIONS) {
      for (const site of inTurn(sites, round)) {
        const targets = await operation.targets(site, requests)
        note(operation.name, site.size, await counted(site, requests, () => batch(site, targets)))
      }
    }
    for (const site of inTurn(sites, round)) {
      await plantJobs(site, requests * 4)
      note(JOB, site.size, await counted(site, requests * 4, () => work(site)))
      note(WEBHOOK, site.size, await counted(site, requests, () => lookForDeliveries(site, requests)))
    }
    say(`round ${round + 1} of ${rounds}`)
  }
  return all
}

/** Whoever comes first in one round comes last in the next. */
const inTurn = (sites: Site[], round: number) => (round % 2 === 0 ? sites : [...sites].reverse())

async function counted(site: Site, count: number, run: () => Promise<number[]>) {
  const position = async () => {
    const { rows } = await site.sql.query(`select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') as at`)
    return Number(rows[0]?.at)
  }
  const before = await position()
  const start = performance.now()
  const times = await run()
  const seconds = (performance.now() - start) / 1000
  await sleep(20)
  return { ms: median(times), perSecond: count / seconds, wal: ((await position()) - before) / count }
}

/** Milliseconds of each, several side by side. */
async function sideBySide<T>(items: readonly T[], one: (item: T) => Promise<void>): Promise<number[]> {
  const queue = [...items]
  const times: number[] = []
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
        const start = performance.now()
        await one(item)
        times.push(performance.now() - start)
      }
    }),
  )
  return times
}

function batch({ server }: Site, targets: Target[]): Promise<number[]> {
  return sideBySide(targets, async ({ path, body, method, cdn, expect }) => {
    const response = await fetch(cdn ? `${server.cdn}${path}` : `${server.api}/api/partner${path}`, {
      method: method ?? (body === undefined ? 'GET' : 'POST'),
      headers: cdn ? {} : HEADERS,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (response.status !== expect) throw new Error(`${path}: ${response.status} ${text}`)
  })
}

/** Beside those that wait for their time, which grow with the tables; what sends left behind goes. */
async function plantJobs({ sql }: Site, count: number): Promise<void> {
  await sql.query(`delete from jobs where kind = 'message.send'`)
  await sql.query(
    `insert into jobs (id, kind, payload, run_at, attempt, leased_until, created_at)
     select gen_random_uuid()::text, 'message.send', '{"message_id":"' || gen_random_uuid() || '"}', 1000 + i, 0, 0, 1000
     from generate_series(1, $1::int) as i`,
    [count],
  )
  await sql.query('vacuum jobs')
}

/** As the worker does it: sixteen at a time, finished one by one. The time is that of one job. */
async function work({ opened }: Site): Promise<number[]> {
  const times: number[] = []
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async (_, lane) => {
      for (;;) {
        const start = performance.now()
        const now = Date.now()
        const o = { now, realNow: now, limit: 16, leaseMs: 60_000, node: `lane-${lane}`, skipLocked: true }
        const jobs = await claim(opened.db, o)
        for (const job of jobs) await finish(opened.db, job)
        if (jobs.length === 0) return
        times.push((performance.now() - start) / jobs.length)
      }
    }),
  )
  return times
}

async function lookForDeliveries({ opened }: Site, count: number): Promise<number[]> {
  const now = Date.now()
  const running = { bySubscription: new Map<string, number>(), byPartner: new Map<string, number>() }
  return await sideBySide(Array.from({ length: count }, Number), async () => {
    const found = await claimDeliveries(opened, { now, realNow: now, limit: 16, leaseMs: 60_000, node: 'one', running })
    if (found.length > 0) throw new Error('a delivery was due')
  })
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

function print(sites: Site[], measured: Measured): void {
  const [first] = sites
  const others = sites.slice(1)
  const head = [
    'request',
    ...sites.map(({ size }) => `${size}: ms`),
    ...others.map(({ size }) => `${size}: ratio`),
    ...sites.map(({ size }) => `${size}: a second`),
    ...sites.map(({ size }) => `${size}: WAL bytes`),
  ]
  console.log(`| ${head.join(' | ')} |\n|---${'|--:'.repeat(head.length - 1)}|`)
  for (const [name, bySize] of measured) {
    const at = (size: number) => bySize.get(size) ?? { ms: [], perSecond: [], wal: [] }
    const start = at(first?.size ?? 0).ms
    const line = [
      name,
      ...sites.map(({ size }) => median(at(size).ms).toFixed(2)),
      // Round against the same round: they ran right after one another.
      ...others.map(({ size }) => median(at(size).ms.map((ms, round) => ms / (start[round] ?? Number.NaN))).toFixed(2)),
      ...sites.map(({ size }) => median(at(size).perSecond).toFixed(0)),
      ...sites.map(({ size }) => median(at(size).wal).toFixed(0)),
    ]
    console.log(`| ${line.join(' | ')} |`)
  }
}

async function printSizes({ sql, size, fillSeconds }: Site): Promise<void> {
  const deep = await sql.query('create extension if not exists pageinspect').then(
    () => `(select level from bt_metap(i.indexrelid::regclass::text))`,
    () => 'null',
  )
  const { rows } = await sql.query<{ name: string; rows: number; bytes: string; level: number | null }>(
    `select t.relname as name, t.reltuples::bigint as rows, pg_table_size(t.oid) as bytes, null::int as level, t.relname as of,
       0 as part from pg_class t where t.relname = any($1) and t.relkind = 'r'
     union all
     select x.relname, t.reltuples::bigint, pg_relation_size(x.oid), ${deep}::int, t.relname, 1 from pg_index i
       join pg_class x on x.oid = i.indexrelid join pg_class t on t.oid = i.indrelid where t.relname = any($1)
     order by "of", part, name`,
    [TABLES],
  )
  console.log(`\n${size}: filled in ${fillSeconds} s\n\n| table or index | rows | MB | bytes a row | levels |`)
  console.log('|---|--:|--:|--:|--:|')
  for (const row of rows) {
    const bytes = Number(row.bytes)
    const each = row.rows > 0 ? (bytes / Number(row.rows)).toFixed(0) : '-'
    const levels = row.level === null ? '' : row.level + 1
    console.log(`| ${row.name} | ${row.rows} | ${(bytes / 1e6).toFixed(1)} | ${each} | ${levels} |`)
  }
}

/** The statements of rows.ts, as they reach PostgreSQL. */
const HOT: Record<string, string> = {
  'get, CDN look-up': `select * from attachments where id = scaling.attachment_id($1)`,
  'list messages': `select * from messages where deleted_at is null
    and chat_id = scaling.chat_id(scaling.chat_of($1) / 925 * 925) order by created_at desc, id desc limit 51`,
  'list messages, deep': `select * from messages where deleted_at is null
    and chat_id = scaling.chat_id(scaling.chat_of($1) / 925 * 925)
    and (created_at, id) < (scaling.time_of(scaling.messages() / 2), '0') order by created_at desc, id desc limit 51`,
  'parts of 50 messages': `select p.*, a.id as a_id, a.filename from message_parts p
    left join attachments a on a.id = p.attachment_id
    where p.message_id = any(array(select scaling.message_id(i) from generate_series($1, $1 + 49) as i))
    order by p.message_id, p.position`,
  'list chats': `select * from chats where partner_id = $2 order by updated_at desc, id desc limit 21`,
  'list chats with a number': `select * from chats where partner_id = $2 and id in (select chat_id from chat_handles
    where handle = '+1' || (2100000000 + $1 / 925 * 5 % (scaling.messages() / 10000 * 925)) and is_me = 0)
    order by updated_at desc, id desc limit 21`,
  'list chats with an e-mail address': `select * from chats where partner_id = $2 and id in (select chat_id from chat_handles
    where lower(handle) = 'somebody@example.com' and is_me = 0) order by updated_at desc, id desc limit 21`,
  'list chats of a line without any': `select * from chats where partner_id = $2 and phone_number = '+12025550143'
    order by updated_at desc, id desc limit 21`,
  'jobs due': `select id from jobs where failed_at is null and run_at <= $2::bigint and leased_until <= $2::bigint
    order by run_at, id limit 16 for update skip locked`,
  'webhooks due': `select id from webhook_deliveries where status = 'pending' and next_attempt_at <= $2::bigint limit 1`,
}

type Plan = { 'Index Name'?: string; 'Node Type': string; 'Relation Name'?: string; Plans?: Plan[] }

async function printPlans({ sql, size, messages, partner }: Site): Promise<void> {
  console.log(`\n${size}\n\n| query | by | buffers found | buffers read | ms |\n|---|---|--:|--:|--:|`)
  for (const [name, text] of Object.entries(HOT)) {
    const runs: { hit: number; read: number; ms: number; by: string }[] = []
    for (let run = 0; run < 11; run++) {
      const from = Math.floor(Math.random() * (messages - 100))
      const last = name.startsWith('list chats') ? `'${partner}'` : String(Date.now())
      const query = text.replaceAll('$1', String(from)).replaceAll('$2', last)
      const { rows } = await sql.query(`explain (analyze, buffers, format json) ${query}`)
      const [found] = rows[0]['QUERY PLAN']
      const { 'Shared Hit Blocks': hit, 'Shared Read Blocks': read } = found.Plan
      runs.push({ hit, read, ms: found['Execution Time'], by: [...new Set(scans(found.Plan))].join(', ') })
    }
    const middle = (pick: 'hit' | 'read' | 'ms') => median(runs.map((run) => run[pick]))
    console.log(`| ${name} | ${runs[0]?.by} | ${middle('hit')} | ${middle('read')} | ${middle('ms').toFixed(2)} |`)
  }
}

function scans(plan: Plan): string[] {
  const whole = plan['Node Type'] === 'Seq Scan' ? [`all of ${plan['Relation Name']}`] : []
  return [...whole, ...(plan['Index Name'] ? [plan['Index Name']] : []), ...(plan.Plans ?? []).flatMap(scans)]
}

await main()
