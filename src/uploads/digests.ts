/**
 * The digests of a body on its way: the SHA-256 it is known by and the MD5 of its ETag. Those of a large one are made in a second
 * thread, since they take longer than all else that is done with the bytes. The thread starts with the first large body;
 * should it die, its uploads fail as ours to mend and the next starts another.
 */
import { createHash } from 'node:crypto'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { Failure } from '../failure.ts'
import { BLOCK_BYTES, giveBack, takeBlock } from '../storage/blocks.ts'
import type { Digests, FromThread, ToThread } from './digests-thread.ts'

/** Below this a second thread saves less than its messages cost. */
const LARGE_BYTES = 4 * 1024 * 1024

export interface Hashing extends Disposable {
  /**
   * Takes the next piece of the body. A promise: it is being read until that is settled, and must not change before; it
   * rejects with Failure overloaded when the thread died.
   */
  update(piece: Buffer): Promise<void> | undefined
  /** Once, in hex. Rejects as `update` does. */
  digest(): Promise<Digests>
}

/** Dispose of it when no digest is wanted any more. */
export function hashing(sizeBytes: number): Hashing {
  return sizeBytes >= LARGE_BYTES ? new InThread(thread()) : here()
}

function here(): Hashing {
  const [sha256, md5] = [createHash('sha256'), createHash('md5')]
  return {
    update(piece) {
      sha256.update(piece)
      md5.update(piece)
      return undefined
    },
    digest: async () => ({ sha256: sha256.digest('hex'), md5: md5.digest('hex') }),
    [Symbol.dispose]() {},
  }
}

type Thread = { readonly worker: Worker; readonly bodies: Map<number, InThread> }

let running: Thread | undefined
let lastId = 0

function thread(): Thread {
  if (running) return running
  const worker = new Worker(new URL(`./digests-thread${extname(import.meta.filename)}`, import.meta.url), {
    name: 'digests',
    resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32 },
  })
  const started: Thread = { worker, bodies: new Map() }
  worker.on('message', (said: FromThread) => started.bodies.get(said.id)?.hear(said))
  const onEnd = (error: unknown) => {
    if (running === started) running = undefined
    for (const body of started.bodies.values()) body.fail(error)
    started.bodies.clear()
  }
  worker.on('error', onEnd).on('exit', (code) => onEnd(new Error(`the thread of digests ended with ${code}`)))
  // Behind the listeners: one for messages holds the process open again.
  worker.unref()
  running = started
  return started
}

type Waiting<T> = Pick<PromiseWithResolvers<T>, 'resolve' | 'reject'>

class InThread implements Hashing {
  readonly #thread: Thread
  readonly #id = ++lastId
  /** In the order in which the thread reads them. */
  #pieces: Waiting<void>[] = []
  #digests: Waiting<Digests> | undefined
  #failure: Failure | undefined

  constructor(thread: Thread) {
    this.#thread = thread
    thread.bodies.set(this.#id, this)
  }

  async update(piece: Buffer): Promise<void> {
    if (piece.buffer instanceof SharedArrayBuffer) return await this.#read(piece)
    const copies: Promise<void>[] = []
    for (let at = 0; at < piece.length; at += BLOCK_BYTES) {
      const block = takeBlock()
      const copy = block.subarray(0, piece.copy(block, 0, at))
      copies.push(this.#read(copy).then(() => giveBack(block)))
    }
    await Promise.all(copies)
  }

  async digest(): Promise<Digests> {
    if (this.#failure) throw this.#failure
    return await new Promise((resolve, reject) => {
      this.#digests = { resolve, reject }
      this.#say({ id: this.#id, over: 'digest' })
    })
  }

  [Symbol.dispose](): void {
    if (this.#thread.bodies.delete(this.#id)) this.#say({ id: this.#id, over: 'forget' })
  }

  hear({ digests }: FromThread): void {
    if (!digests) {
      this.#pieces.shift()?.resolve()
      return
    }
    this.#thread.bodies.delete(this.#id)
    this.#digests?.resolve(digests)
  }

  fail(error: unknown): void {
    this.#failure = new Failure('overloaded', undefined, { cause: error })
    for (const piece of this.#pieces) piece.reject(this.#failure)
    this.#pieces = []
    this.#digests?.reject(this.#failure)
  }

  #read(piece: Uint8Array): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#pieces.push({ resolve, reject })
      this.#say({ id: this.#id, piece })
    })
  }

  #say(message: ToThread): void {
    this.#thread.worker.postMessage(message)
  }
}
