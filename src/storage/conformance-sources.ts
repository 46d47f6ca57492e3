/** What the storages' suite stores and how it looks at it: sources that are cut oddly, break, stop short, run on or never end. */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Entry, Storage } from './storage.ts'

export async function assertGone(storage: Storage, key: string): Promise<void> {
  // A server may still be busy with a connection that has just gone.
  await sleep(50)
  assert.equal(await storage.stat(key), undefined)
  assert.equal(await storage.get(key), undefined)
  assert.ok(!(await list(storage)).some((entry) => entry.key === key))
}

export async function list(storage: Storage, after?: string): Promise<Entry[]> {
  const found: Entry[] = []
  for await (const entry of storage.list(after)) found.push(entry)
  return found
}

export const put = (storage: Storage, key: string, bytes: Buffer) => storage.put(key, chunked(bytes), bytes.length)

export async function read(storage: Storage, key: string, range?: { start: number; end: number }): Promise<Buffer> {
  const body = await storage.get(key, range)
  assert.ok(body, `${key} is missing`)
  return await buffer(body)
}

/** In pieces of odd sizes, some of them empty. */
export function chunked(bytes: Buffer, piece = 17_389): Readable {
  return Readable.from(
    (function* () {
      for (let at = 0; at < bytes.length; at += piece) {
        yield bytes.subarray(at, at + piece)
        if (at % 5 === 0) yield Buffer.alloc(0)
      }
    })(),
    { objectMode: false },
  )
}

export function breaking(bytes: Buffer, how: 'destroy' | 'fail'): Readable {
  let sent = false
  return new Readable({
    read() {
      if (!sent && bytes.length > 0) this.push(bytes)
      else setTimeout(() => this.destroy(how === 'fail' ? new Error('the line is cut') : undefined), 10)
      sent = true
    },
  })
}

export function endless(): Readable {
  return new Readable({
    read() {
      setTimeout(() => this.push(Buffer.alloc(16 * 1024)), 1)
    },
  })
}

export function repeating(size: number): Readable {
  const block = Buffer.alloc(64 * 1024, 'satchel ')
  let left = size
  return new Readable({
    read() {
      const length = Math.min(left, block.length)
      left -= length
      this.push(length === 0 ? null : block.subarray(0, length))
    },
  })
}

export function* cut(bytes: Buffer, sizes: number[]): Generator<Buffer> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1
    yield bytes.subarray(at, at + size)
    at += size
  }
}

export function* forever(): Generator<Buffer> {
  for (;;) yield Buffer.alloc(65_536)
}

/** Fails before anyone could have listened to it, as a file that cannot be opened does. */
export function breakingAtOnce(): Readable {
  return new Readable({
    construct: (done) => process.nextTick(done, new Error('it could not be opened')),
    read() {},
  })
}
