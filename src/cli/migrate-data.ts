/**
 * `satchel migrate-data`: moves all data of another Satchel into the configured one, e.g. from SQLite and disk to PostgreSQL
 * and S3. Can be stopped and started again; once it is through, running it again compares both.
 */
import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import type { Out } from '../cli.ts'
import { systemClock } from '../clock.ts'
import { type Config, ConfigError, loadConfig } from '../config.ts'
import type { Opened } from '../db/schema.ts'
import { lockFile, lockOfDatabase, lockOfFolder } from '../db/sqlite.ts'
import { configuredUrls, isPostgres, openDatabase, openStorage } from '../open.ts'
import { type Secrets, secretsInDatabase, secretsInFolder } from '../secrets.ts'
import type { Storage } from '../storage/storage.ts'
import { copyObjects, type Problem, verifyObjects } from '../transfer/objects.ts'
import { beginMove, MoveRefused } from '../transfer/progress.ts'
import { copyRows, verifyRows } from '../transfer/rows.ts'
import { tables } from '../transfer/tables.ts'
import { openProgress, readableBytes } from './progress.ts'

const HELP = `satchel migrate-data --from-database URL --from-storage URL

Copies everything from there to what SATCHEL_DATABASE_URL and SATCHEL_STORAGE_URL name: rows in batches, objects as
streams whose SHA-256 must be that of their row, and the generated secrets. Both servers must be stopped, and the target
must be empty. The source is only read, but for being brought to the newest schema.

  --from-database URL   sqlite:PATH or postgres://...
  --from-storage URL    file:PATH or s3://...; the target's own when only the database moves

Started again after an interruption it goes on where it was; started again after the end it changes nothing, and compares
every row and every byte. Exit code 0: all is there. 1: something is not, and was named.
`

const SECRETS = ['upload-signing-key', 'sandbox-api-key']

type Side = { opened: Opened; storage: Storage; secrets: Secrets }

export async function migrateDataCommand(argv: string[], out: Out): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      'from-database': { type: 'string' },
      'from-storage': { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    out.stdout(HELP)
    return 0
  }
  const from = { database: absolute(values['from-database'] ?? ''), storage: absolute(values['from-storage'] ?? '') }
  if (!from.database || !from.storage) {
    out.stderr(HELP)
    return 2
  }
  const config = loadConfig()
  const to = configuredUrls(config)
  const credentials = config.s3Credentials
  try {
    checkSource(from, to)
    using _ = lockAll(from, to, config)
    await using source = await openDatabase(from.database)
    await using target = await openDatabase(to.database)
    const sides = {
      source: await side(source, from, { folder: dirname(pathOf(from.database)), credentials }),
      target: await side(target, to, { folder: config.dataDir, credentials }),
    }
    const name = `${isPostgres(from.database) ? new URL(from.database).host : from.database}, ${from.storage}`
    const { finished } = await beginMove(target.db, name)
    return finished ? await verify(sides, out) : await move({ ...sides, shared: from.storage === to.storage }, out)
  } catch (error) {
    if (!(error instanceof MoveRefused || error instanceof RangeError)) throw error
    out.stderr(`satchel: ${error.message}\n`)
    return 1
  }
}

async function move(
  { source, target, shared }: { source: Side; target: Side; shared: boolean },
  out: Out,
): Promise<number> {
  const progress = openProgress()
  const now = () => systemClock.now()
  for (const table of tables) {
    const onProgress = (copied: number) => progress.show(`${table.name}: ${copied} rows`)
    const copied = await copyRows({ source: source.opened.db, target: target.opened.db, now, onProgress }, table)
    progress.clear()
    if (copied > 0) out.stdout(`${table.name}: ${copied} rows\n`)
  }
  for (const secret of SECRETS) await copySecret(source.secrets, target.secrets, secret)
  const { objects, problems } = await copyObjects({
    ...bothStores(source, target),
    shared,
    now,
    onProgress: shower(progress),
  })
  progress.clear()
  out.stdout(`objects: ${objects}, each with the SHA-256 of its row\n`)
  return conclude(problems, 0, out)
}

async function verify({ source, target }: { source: Side; target: Side }, out: Out): Promise<number> {
  out.stdout('Everything was moved before; comparing.\n')
  const progress = openProgress()
  const now = () => systemClock.now()
  let different = 0
  for (const table of tables) {
    const onProgress = (compared: number) => progress.show(`${table.name}: ${compared} rows`)
    const found = await verifyRows({ source: source.opened.db, target: target.opened.db, now, onProgress }, table)
    progress.clear()
    different += found.missing + found.changed
    if (found.missing + found.changed + found.same > 0) {
      out.stdout(`${table.name}: ${found.same} the same, ${found.changed} changed, ${found.missing} gone\n`)
    }
  }
  const { objects, problems } = await verifyObjects({
    ...bothStores(source, target),
    now,
    onProgress: shower(progress),
  })
  progress.clear()
  out.stdout(`objects: ${objects} with the SHA-256 of their row\n`)
  return conclude(problems, different, out)
}

function conclude(problems: readonly Problem[], different: number, out: Out): number {
  for (const { attachment_id, key, problem } of problems) {
    out.stderr(`satchel: attachment ${attachment_id}: ${key} is ${problem}\n`)
  }
  if (different > 0) out.stderr(`satchel: ${different} rows differ, as they do once the target has been in use\n`)
  return problems.length > 0 || different > 0 ? 1 : 0
}

const bothStores = (source: Side, target: Side) => ({
  source: { db: source.opened.db, storage: source.storage },
  target: { db: target.opened.db, storage: target.storage },
})

const shower =
  (progress: ReturnType<typeof openProgress>) =>
  ({ objects, bytes }: { objects: number; bytes: number }) =>
    progress.show(`objects: ${objects}, ${readableBytes(bytes)}`)

/** One that the source never made is not made here either: the server does that at its start. */
async function copySecret(source: Secrets, target: Secrets, name: string): Promise<void> {
  try {
    const value = await source(name, () => {
      throw new NoSecret()
    })
    await target(name, () => value)
  } catch (error) {
    if (!(error instanceof NoSecret)) throw error
  }
}

class NoSecret extends Error {}

async function side(
  opened: Opened,
  urls: { storage: string },
  { folder, credentials }: { folder: string; credentials: Config['s3Credentials'] },
): Promise<Side> {
  return {
    opened,
    storage: await openStorage(urls.storage, { exclusive: false, credentials }),
    secrets: opened.skipLocked ? secretsInDatabase(opened.db, systemClock) : secretsInFolder(folder),
  }
}

/** The configuration's paths are absolute too, and they are compared. */
function absolute(url: string): string {
  const path = pathOf(url)
  return path === '' ? url : url.slice(0, -path.length) + resolve(path)
}

/** `sqlite:PATH` or `file:PATH`; empty for what is not on this machine. */
const pathOf = (url: string): string => /^(?:sqlite|file):(.+)$/.exec(url)?.[1] ?? ''

/** Opening would make what is missing, and then find it empty. */
function checkSource(from: { database: string; storage: string }, to: { database: string }): void {
  for (const url of [from.database, from.storage]) {
    const path = pathOf(url)
    if (path !== '' && !existsSync(path)) throw new MoveRefused(`${path} does not exist`)
  }
  if (from.database === to.database) {
    throw new MoveRefused('source and target are the same database; SATCHEL_DATABASE_URL names the target')
  }
}

/** What servers lock on both sides, so that none runs on either. PostgreSQL has no such lock: there the operator sees to it. */
function lockAll(from: { database: string }, to: { database: string }, config: Config): Disposable {
  const used = new Map<string, string>()
  const source = pathOf(from.database)
  if (source !== '') used.set(lockOfFolder(dirname(source)), dirname(source)).set(lockOfDatabase(source), source)
  const target = pathOf(to.database)
  if (target !== '') used.set(lockOfFolder(config.dataDir), config.dataDir).set(lockOfDatabase(target), target)
  const locks: Disposable[] = []
  const release = () => {
    for (const lock of locks.splice(0)) lock[Symbol.dispose]()
  }
  for (const [file, what] of used) {
    const lock = lockFile(file)
    if (!lock) {
      release()
      throw new ConfigError([`a server is running on ${what}; stop it first.`])
    }
    locks.push(lock)
  }
  return { [Symbol.dispose]: release }
}
