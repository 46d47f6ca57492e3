/**
 * What a request costs while the tables grow: `npm run scaling -- --sizes 10000,1000000` prints the tables of docs/scaling.md.
 * One PostgreSQL, one database and one real server for each size, filled with generated rows; then rounds that take the sizes
 * in turn, so that whatever else the machine does weighs on all of them alike.
 * `--server URL` uses a PostgreSQL that runs (on this machine, as a superuser), changes its settings, and finds databases
 * filled earlier there again. Sizes are multiples of 10,000; `--messages` caps the messages beside them.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { openPostgres } from '../src/db/postgres.ts'
import { type Postgres, startPostgres } from '../test/support/postgres.ts'
import { startServer } from '../test/support/satchel.ts'
import { measureAll, printMeasured, say } from './scaling-rounds.ts'
import { addressHandles, createScaffold, fillSteps, INDEXES_LEFT_OUT, type Sizes } from './scaling-rows.ts'
import { printPlans, printSizes } from './scaling-tables.ts'
import { API_KEY, CONNECTIONS, LINE, type Site } from './scaling-work.ts'

/** Of one statement of the fill. */
const FILL_ROWS = 1_000_000
/** Nothing of a fill need survive a crash. */
const FILLING = {
  fsync: 'off',
  full_page_writes: 'off',
  autovacuum: 'off',
  max_wal_size: '4GB',
  checkpoint_timeout: '1h',
  maintenance_work_mem: '1GB',
}
/** PostgreSQL's defaults, 128 MB of shared buffers and a sync at every commit included. */
const MEASURING = Object.fromEntries(Object.keys(FILLING).map((name) => [name, null]))

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      sizes: { type: 'string', default: '10000,1000000' },
      rounds: { type: 'string', default: '15' },
      requests: { type: 'string', default: '40' },
      messages: { type: 'string', default: 'Infinity' },
      server: { type: 'string' },
      'fill-only': { type: 'boolean', default: false },
    },
  })
  const sizes = values.sizes.split(',').map(Number)
  if (!sizes.every((size) => size > 0 && size % 10_000 === 0)) throw new Error('--sizes: multiples of 10000')
  const began = Date.now()
  const own = values.server === undefined ? await startOwn() : undefined
  const sites: Site[] = []
  try {
    const base = values.server ?? (own as Postgres).url()
    await change(base, FILLING)
    for (const size of sizes)
      sites.push(await openSite(base, { size, messages: Math.min(size, Number(values.messages)) }))
    if (values['fill-only']) return
    await change(base, MEASURING)
    const measured = await measureAll(sites, Number(values.rounds), Number(values.requests))
    printMeasured(sites, measured)
    for (const site of sites) await printSizes(site)
    await printPlans(sites)
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

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  return client
}

/** It never syncs, as for tests: pages, work and WAL are the same, times are not. */
async function startOwn(): Promise<Postgres> {
  const own = await startPostgres()
  await change(own.url(), { shared_preload_libraries: 'pg_stat_statements' })
  await own.stop('fast')
  await own.start()
  return own
}

/** null: PostgreSQL's default again. */
async function change(url: string, settings: Record<string, string | null>): Promise<void> {
  const client = await connect(url)
  for (const [name, value] of Object.entries(settings)) {
    await client.query(value === null ? `alter system reset ${name}` : `alter system set ${name} = '${value}'`)
  }
  await client.query('select pg_reload_conf()')
  await client.query('checkpoint')
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
  for (const extension of ['pg_stat_statements', 'pageinspect']) {
    await sql.query(`create extension if not exists ${extension}`)
  }
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
  await sql.query(addressHandles)
  return { size, messages, server, opened, sql, files, partner, fillSeconds }
}

/** Seconds that it took. Three connections; foreign keys are not checked, and indexes on other columns are built at the end. */
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
      for (const { about, count, text } of steps) {
        for (let from = 0; from < count; from += FILL_ROWS) {
          const start = Date.now()
          const end = Math.min(count, from + FILL_ROWS)
          await lane.query(text(from, end))
          say(`${o.size}: ${about}: ${end} of ${count}, ${((Date.now() - start) / 1000).toFixed(1)} s`)
        }
      }
      await lane.end()
    }),
  )
  const halves = [indexes.filter((_, at) => at % 2 === 0), indexes.filter((_, at) => at % 2 === 1)]
  await Promise.all(
    halves.map(async (half) => {
      const lane = await connect(url)
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

await main()
