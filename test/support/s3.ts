/**
 * Two S3 servers that verify signatures and that nobody here wrote: versitygw and rclone's "serve s3", both in Go and both
 * unrelated. Built once with Go, at pinned versions, into TEST_BIN_DIR or the user's cache. A server that cannot be had is an
 * error, never a reason to skip.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

const BUILDS = {
  versitygw: 'github.com/versity/versitygw/cmd/versitygw@v1.8.0',
  rclone: 'github.com/rclone/rclone@v1.76.0',
} as const

export type S3Kind = keyof typeof BUILDS
export const S3_KINDS = Object.keys(BUILDS) as S3Kind[]

const START_LIMIT_MS = 120_000
/** From an empty cache of modules, on a machine that is busy. */
const BUILD_LIMIT_MS = 20 * 60_000
export const BUCKET = 'satchel-test'
export const ACCESS_KEY_ID = 'satchel-test-key'
export const SECRET_ACCESS_KEY = 'satchel-test-secret-of-some-length'

export type S3Server = {
  readonly kind: S3Kind
  readonly endpoint: string
  /** What SATCHEL_STORAGE_URL would be; `more` are further parameters. */
  url(more?: Record<string, string>): string
  /** URL and credentials, for a server's environment. */
  env(more?: Record<string, string>): Record<string, string>
  /** The S3 goes away (SIGKILL) and comes back on the same port with the same objects. */
  stop(): Promise<void>
  start(): Promise<void>
  /** It keeps its connections but answers nothing (SIGSTOP), until it is let go on. */
  freeze(): void
  thaw(): void
  [Symbol.asyncDispose](): Promise<void>
}

export async function startS3(kind: S3Kind): Promise<S3Server> {
  const binary = await built(kind)
  const root = await mkdtemp(join(tmpdir(), `satchel-${kind}-`))
  await mkdir(join(root, 'objects', BUCKET), { recursive: true })
  const port = await freePort()
  const endpoint = `http://127.0.0.1:${port}`
  let child: ChildProcess | undefined

  async function start(): Promise<void> {
    const { args, env } = commandOf(kind, port, root)
    const started = spawn(binary, args, { env: { PATH: process.env.PATH, HOME: root, ...env }, stdio: 'pipe' })
    child = started
    let output = ''
    const remember = (chunk: Buffer) => {
      output = (output + chunk).slice(-4_000)
    }
    started.stdout?.on('data', remember)
    started.stderr?.on('data', remember)
    const giveUpAt = Date.now() + START_LIMIT_MS
    while (!(await answers(endpoint))) {
      if (started.exitCode !== null || Date.now() > giveUpAt) throw new Error(`${kind} did not start:\n${output}`)
      await sleep(50)
    }
  }

  async function stop(): Promise<void> {
    const running = child
    child = undefined
    if (!running || running.exitCode !== null || running.signalCode !== null) return
    const exited = once(running, 'exit')
    running.kill('SIGKILL')
    await exited
  }

  const url = (more: Record<string, string> = {}) =>
    `s3://${BUCKET}?${new URLSearchParams({ endpoint, region: 'us-east-1', ...more })}`
  await start()
  return {
    kind,
    endpoint,
    url,
    env: (more) => ({
      SATCHEL_STORAGE_URL: url(more),
      SATCHEL_S3_ACCESS_KEY_ID: ACCESS_KEY_ID,
      SATCHEL_S3_SECRET_ACCESS_KEY: SECRET_ACCESS_KEY,
    }),
    start,
    stop,
    freeze: () => child?.kill('SIGSTOP'),
    thaw: () => child?.kill('SIGCONT'),
    async [Symbol.asyncDispose]() {
      await stop()
      await rm(root, { recursive: true, force: true })
    },
  }
}

function commandOf(kind: S3Kind, port: number, root: string): { args: string[]; env: Record<string, string> } {
  const address = `127.0.0.1:${port}`
  const objects = join(root, 'objects')
  if (kind === 'versitygw') {
    const env = { ROOT_ACCESS_KEY: ACCESS_KEY_ID, ROOT_SECRET_KEY: SECRET_ACCESS_KEY }
    return { args: ['--port', address, '--quiet', '--keep-alive', 'posix', objects], env }
  }
  const key = `${ACCESS_KEY_ID},${SECRET_ACCESS_KEY}`
  const args = ['serve', 's3', '--config', '', '--addr', address, '--auth-key', key, '--directory-markers', objects]
  return { args, env: {} }
}

/** Builds what is missing before any test waits for it; says where the programs are. */
export async function buildS3Servers(): Promise<string[]> {
  const paths: string[] = []
  for (const kind of S3_KINDS) paths.push(await built(kind))
  return paths
}

/** The path of the program, building it when it is not there yet: some minutes, once. */
async function built(kind: S3Kind): Promise<string> {
  const target = BUILDS[kind]
  const version = target.slice(target.indexOf('@') + 1)
  const folder = process.env.TEST_BIN_DIR ?? join(homedir(), '.cache', 'satchel-test')
  const path = join(folder, `${kind}-${version}`)
  if (await exists(path)) return path
  const building = join(folder, `building-${kind}-${process.pid}`)
  await mkdir(building, { recursive: true })
  try {
    await run('go', ['install', target], {
      env: { ...process.env, GOBIN: building },
      maxBuffer: 1 << 24,
      timeout: BUILD_LIMIT_MS,
    })
    await rename(join(building, kind), path)
  } catch (error) {
    throw new Error(`${target} cannot be built; the tests of S3 need it, and Go to build it`, { cause: error })
  } finally {
    await rm(building, { recursive: true, force: true })
  }
  return path
}

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )

const answers = (endpoint: string) =>
  fetch(endpoint).then(
    async (response) => {
      await response.arrayBuffer()
      return true
    },
    () => false,
  )

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
