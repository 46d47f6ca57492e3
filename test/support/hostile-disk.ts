/**
 * A server whose disk or thread fails, or whose power is cut, at one exact call: loaded before the program (NODE_OPTIONS=--import), it
 * stands at the edge of the world, between the program and the system. What it does is said by a file of orders, read at each call,
 * so that a test can change its mind while the server runs. Knows nothing of the program but which paths it writes to.
 */
import { createHash, type Hash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { type FileHandle, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { isMainThread } from 'node:worker_threads'

/**
 * `call` on a file whose path has `path` in it; or the 200 of a PUT, just before it is written; or a step of a hash in a thread
 * besides, which alone ends then.
 */
export type Order = {
  call: 'writev' | 'datasync' | 'sync' | 'answer' | 'update' | 'digest'
  path?: string
  act: 'EIO' | 'half, then ENOSPC' | 'kill before' | 'kill after'
}

export type HostileDisk = {
  /** For startServer. */
  readonly env: Record<string, string>
  /** From now on until the next order. undefined: all is well. */
  order(order: Order | undefined): Promise<void>
  remove(): Promise<void>
}

export async function hostileDisk(): Promise<HostileDisk> {
  const folder = await mkdtemp(join(tmpdir(), 'satchel-orders-'))
  const orders = join(folder, 'orders')
  await writeFile(orders, 'null')
  return {
    env: {
      NODE_OPTIONS: `--import=${pathToFileURL(fileURLToPath(import.meta.url)).href}`,
      HOSTILE_DISK_ORDERS: orders,
    },
    order: (order) => writeFile(orders, JSON.stringify(order ?? null)),
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}

/** Empty while a test writes it. */
const read = (orders: string) => JSON.parse(readFileSync(orders, 'utf8') || 'null') as Order | null

/** Nothing runs after it: no callback, no answer, no closing of files. */
function die(): never {
  process.kill(process.pid, 'SIGKILL')
  for (;;);
}

type Call = (this: FileHandle, ...args: unknown[]) => Promise<unknown>

async function takeHold(orders: string): Promise<void> {
  const handle = await open('/dev/null')
  const prototype = Object.getPrototypeOf(handle) as Record<string, Call>
  await handle.close()
  for (const call of ['writev', 'datasync', 'sync'] as const) {
    const real = prototype[call] as Call
    prototype[call] = async function (...args) {
      const order = read(orders)
      const isMeant = order?.call === call && readlinkSync(`/proc/self/fd/${this.fd}`).includes(order.path ?? '')
      if (!order || !isMeant) return await real.apply(this, args)
      if (order.act === 'kill before') die()
      if (order.act === 'half, then ENOSPC') {
        const [chunks, position] = args as [Uint8Array[], number]
        const all = Buffer.concat(chunks)
        await real.call(this, [all.subarray(0, all.length / 2)], position)
      }
      if (order.act === 'kill after') {
        await real.apply(this, args)
        die()
      }
      const code = order.act === 'EIO' ? 'EIO' : 'ENOSPC'
      throw Object.assign(new Error(`${code}: ordered by a test, ${call}`), { code, syscall: call })
    }
  }
  const { writeHead } = ServerResponse.prototype
  ServerResponse.prototype.writeHead = function (this: ServerResponse, status: number, ...rest: never[]) {
    if (this.req.method === 'PUT' && status === 200 && read(orders)?.call === 'answer') die()
    return writeHead.call(this, status, ...rest)
  } as typeof writeHead
}

function takeHoldOfThread(orders: string): void {
  const prototype = Object.getPrototypeOf(createHash('md5')) as Record<string, (...args: unknown[]) => unknown>
  for (const call of ['update', 'digest']) {
    const real = prototype[call]
    prototype[call] = function (this: Hash, ...args) {
      if (read(orders)?.call === call) process.exit(1)
      return real?.apply(this, args)
    }
  }
}

const { HOSTILE_DISK_ORDERS: orders } = process.env
if (orders && isMainThread) await takeHold(orders)
else if (orders) takeHoldOfThread(orders)
