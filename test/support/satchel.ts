/**
 * Starts the real program as a child process with a data folder of its own, and talks to it as callers do. With
 * SATCHEL_TEST_DATABASE_URL, a PostgreSQL server, each has a database of its own there instead of SQLite.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import LinqAPIV3 from '@linqapp/sdk'
import { databaseFor, dropDatabase } from './postgres.ts'

const BIN = fileURLToPath(new URL('../../bin/satchel.js', import.meta.url))
const START_LIMIT_MS = 120_000

export type Server = {
  /** Origins without a slash at the end. */
  readonly api: string
  readonly cdn: string
  readonly apiKey: string
  readonly phoneNumbers: readonly string[]
  readonly dataDir: string
  readonly env: Record<string, string>
  readonly process: ChildProcess
  /** What it has written to standard error so far. */
  log(): string
  /** The official SDK, without its own retries unless asked for, so that a test sees each answer. */
  client(options?: { apiKey?: string; maxRetries?: number }): LinqAPIV3
  /** A request to `path` under /api/partner with the API key. */
  call(path: string, init?: RequestInit & { apiKey?: string }): Promise<Response>
  /** SIGKILL: nothing is finished, nothing is said. */
  kill(): Promise<void>
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>
  /** Stops it and removes its data folder. */
  [Symbol.asyncDispose](): Promise<void>
}

type Options = {
  env?: Record<string, string>
  /** Reuse a folder, e.g. after kill(); it is then left for the caller to remove. */
  dataDir?: string
  /** Default: all. */
  role?: string
}

export async function startServer(o: Options = {}): Promise<Server> {
  const dataDir = o.dataDir ?? (await mkdtemp(join(tmpdir(), 'satchel-test-')))
  const database = o.env?.SATCHEL_DATABASE_URL === undefined ? await databaseFor(dataDir) : undefined
  const env: Record<string, string> = {
    SATCHEL_PORT: '0',
    SATCHEL_CDN_PORT: '0',
    SATCHEL_DATA_DIR: dataDir,
    SATCHEL_LOG_LEVEL: 'info',
    ...(database ? { SATCHEL_DATABASE_URL: database } : {}),
    ...o.env,
  }
  const child = spawn(process.execPath, [BIN, 'serve', '--role', o.role ?? 'all'], {
    env: { ...bareEnvironment(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const exited = once(child, 'exit')
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the server did not start:\n${stderr}`)), START_LIMIT_MS)
    child.stdout.on('data', (chunk) => {
      stdout += chunk
      if (/ is ready\.[\s\S]*\n\n$/.test(stdout)) resolve()
    })
    exited.then(() => reject(new Error(`the server ended at its start:\n${stderr}`)), reject)
    void exited.finally(() => clearTimeout(timer))
    child.stdout.once('data', () => timer.unref())
  })

  const found = (pattern: RegExp) => pattern.exec(stdout)?.[1] ?? ''
  const base = found(/API base URL\s+(\S+)/) || `${found(/Health\s+(\S+)\/healthz/)}/api/partner`
  const apiKey = env.SATCHEL_API_KEY ?? found(/API key\s+(\S+)/)
  async function stop(): Promise<number | null> {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    await exited
    return child.exitCode
  }
  return {
    api: base.replace(/\/api\/partner$/, ''),
    cdn: found(/CDN\s+(\S+)/),
    apiKey,
    phoneNumbers: found(/Phone numbers\s+(.+)/).split(', '),
    dataDir,
    env,
    process: child,
    log: () => stderr,
    client: (options) => new LinqAPIV3({ baseURL: base, apiKey, maxRetries: 0, ...options }),
    call: (path, { apiKey: key = apiKey, ...init } = {}) =>
      fetch(`${base}${path}`, { ...init, headers: { authorization: `Bearer ${key}`, ...init.headers } }),
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
    stop,
    async [Symbol.asyncDispose]() {
      await stop()
      if (o.dataDir !== undefined) return
      await rm(dataDir, { recursive: true, force: true })
      if (database) await dropDatabase(database)
    },
  }
}

/** Runs a command of the CLI to its end; on the database of a server that has the same data folder. */
export async function runCli(args: string[], env: Record<string, string> = {}) {
  const { SATCHEL_DATA_DIR: dataDir, SATCHEL_DATABASE_URL: named } = env
  const database = dataDir && named === undefined ? await databaseFor(dataDir) : undefined
  const child = spawn(process.execPath, [BIN, ...args], {
    env: { ...bareEnvironment(), ...(database ? { SATCHEL_DATABASE_URL: database } : {}), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, stdout, stderr }
}

/** This process's environment without what would configure a server. */
function bareEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(SATCHEL|LINQ)_|^NODE_TEST/.test(name)))
}
