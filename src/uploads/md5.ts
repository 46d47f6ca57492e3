/**
 * The MD5 of a body on its way. That of a large one is made in a second thread, since it takes twice as long as all else that
 * is done with the bytes: they are copied into two blocks of shared memory in turn, one filled here while the other is hashed
 * there. The thread starts with the first large body; should it die, its uploads fail as ours to mend and the next starts another.
 */
import { createHash } from 'node:crypto'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { Failure } from '../failure.ts'
import type { FromThread, ToThread } from './md5-thread.ts'

/** Below this a second thread saves less than its messages cost. */
const LARGE_BYTES = 4 * 1024 * 1024
const BLOCK_BYTES = 256 * 1024
const BLOCKS = 2

export interface Md5 extends Disposable {
  /** Takes all of the chunk, which must not change. Never throws. */
  update(chunk: Buffer): void
  /** While there is a promise, no more should come. Rejects when the digest will. */
  hold(): Promise<void> | undefined
  /** In hex; once. Failure overloaded when the thread died. */
  digest(): Promise<string>
}

/** Dispose of it when no digest is wanted any more. */
export function md5Of(sizeBytes: number): Md5 {
  if (sizeBytes >= LARGE_BYTES) return new ThreadedMd5(thread())
  const hash = createHash('md5')
  return {
    update: (chunk) => void hash.update(chunk),
    hold: () => undefined,
    digest: async () => hash.digest('hex'),
    [Symbol.dispose]() {},
  }
}

type Thread = { readonly worker: Worker; readonly bodies: Map<number, ThreadedMd5> }

let running: Thread | undefined
let lastId = 0

function thread(): Thread {
  if (running) return running
  const worker = new Worker(new URL(`./md5-thread${extname(import.meta.filename)}`, import.meta.url), {
    name: 'md5',
    resourceLimits: { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 32 },
  })
  const started: Thread = { worker, bodies: new Map() }
  worker.on('message', (said: FromThread) => started.bodies.get(said.id)?.hear(said))
  const onEnd = (error: unknown) => {
    if (running === started) running = undefined
    for (const body of started.bodies.values()) body.fail(error)
    started.bodies.clear()
  }
  worker.on('error', onEnd).on('exit', (code) => onEnd(new Error(`the thread of MD5 ended with ${code}`)))
  // Behind the listeners: one for messages holds the process open again.
  worker.unref()
  running = started
  return started
}

/** Ends the thread if there is one: its bodies fail, and the next large one starts another. */
export async function endThread(): Promise<void> {
  await running?.worker.terminate()
}

class ThreadedMd5 implements Md5 {
  readonly #thread: Thread
  readonly #id = ++lastId
  readonly #blocks = Array.from({ length: BLOCKS }, () => new Uint8Array(new SharedArrayBuffer(BLOCK_BYTES)))
  /** Blocks that may be filled; the first is being filled, to `#filled`. */
  readonly #free = Array.from({ length: BLOCKS }, (_, index) => index)
  #filled = 0
  /** What found no block yet. */
  #rest: Buffer[] = []
  #held: PromiseWithResolvers<void> | undefined
  #ending: PromiseWithResolvers<string> | undefined
  #failure: Failure | undefined

  constructor(thread: Thread) {
    this.#thread = thread
    thread.bodies.set(this.#id, this)
    this.#say({ id: this.#id, blocks: this.#blocks.map(({ buffer }) => buffer) })
  }

  update(chunk: Buffer): void {
    if (this.#failure) return
    this.#rest.push(chunk)
    this.#fill()
  }

  hold(): Promise<void> | undefined {
    if (this.#failure) return Promise.reject(this.#failure)
    if (this.#rest.length === 0) return undefined
    this.#held ??= Promise.withResolvers()
    return this.#held.promise
  }

  async digest(): Promise<string> {
    if (this.#failure) throw this.#failure
    this.#ending = Promise.withResolvers()
    if (this.#rest.length === 0) this.#end()
    return await this.#ending.promise
  }

  [Symbol.dispose](): void {
    if (this.#thread.bodies.delete(this.#id)) this.#say({ id: this.#id, over: 'forget' })
    this.#rest = []
  }

  hear(said: FromThread): void {
    if ('digest' in said) {
      this.#thread.bodies.delete(this.#id)
      this.#ending?.resolve(said.digest)
      return
    }
    this.#free.push(said.block)
    this.#fill()
    if (this.#rest.length > 0) return
    this.#held?.resolve()
    this.#held = undefined
    if (this.#ending) this.#end()
  }

  fail(error: unknown): void {
    this.#failure = new Failure('overloaded', undefined, { cause: error })
    this.#rest = []
    this.#held?.reject(this.#failure)
    this.#ending?.reject(this.#failure)
  }

  #fill(): void {
    for (let chunk = this.#rest[0]; chunk; chunk = this.#rest[0]) {
      const block = this.#blocks[this.#free[0] ?? -1]
      if (!block || this.#failure) return
      const length = Math.min(chunk.length, BLOCK_BYTES - this.#filled)
      block.set(chunk.subarray(0, length), this.#filled)
      this.#filled += length
      if (length < chunk.length) this.#rest[0] = chunk.subarray(length)
      else this.#rest.shift()
      if (this.#filled === BLOCK_BYTES) this.#pass()
    }
  }

  #pass(): void {
    const block = this.#free.shift()
    if (block !== undefined && this.#filled > 0) this.#say({ id: this.#id, block, length: this.#filled })
    this.#filled = 0
  }

  #end(): void {
    this.#pass()
    this.#say({ id: this.#id, over: 'digest' })
  }

  #say(message: ToThread): void {
    this.#thread.worker.postMessage(message)
  }
}
