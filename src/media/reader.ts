/**
 * What every detector reads through: a Bytes with a memory, a budget and an end. Reads are widened to 16 KiB blocks
 * (64 KiB at the head) and kept, so that parsers may ask in small steps without costing a request each.
 * Three ways to stop, which detect() must tell apart afterwards because a library in between may swallow what is thrown:
 * `broken` (the source failed or was too slow, or the caller aborted: no verdict on the file) and `exhausted` (the file
 * asked for more bytes or more work than any honest one needs: a verdict).
 */

import type { Bytes } from './bytes.ts'

export const HEAD_BYTES = 64 * 1024
const BLOCK_BYTES = 16 * 1024
const BUDGET_BYTES = 512 * 1024

type Segment = { readonly start: number; readonly bytes: Uint8Array }

export class Reader implements Bytes {
  readonly size: number
  /** The source's own failure or the reason of the abort. Whatever was concluded after it counts for nothing. */
  broken: { readonly error: unknown } | undefined
  /** Why the inspection was given up, as words for a message. */
  exhausted: string | undefined
  readonly #file: Bytes
  readonly #segments: Segment[] = []
  readonly #signal: AbortSignal | undefined
  readonly #stopped: Promise<never>
  #stop: (error: unknown) => void = () => {}
  readonly #timer: NodeJS.Timeout
  readonly #startedAt = performance.now()
  readonly #timeoutMs: number
  readonly #onAbort = () => this.#break(this.#signal?.reason)
  #waitedMs = 0
  #budget = BUDGET_BYTES

  constructor(file: Bytes, options: { signal?: AbortSignal | undefined; timeoutMs: number }) {
    this.#file = file
    this.size = file.size
    this.#timeoutMs = options.timeoutMs
    this.#stopped = new Promise((_, reject) => {
      this.#stop = reject
    })
    this.#stopped.catch(() => {})
    this.#timer = setTimeout(() => this.#expire(), options.timeoutMs)
    this.#signal = options.signal
    if (this.#signal?.aborted) this.#onAbort()
    else this.#signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  /** Ends the timer and the listener. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }

  head(): Promise<Uint8Array> {
    return this.read(0, HEAD_BYTES)
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    this.checkTime()
    const known = this.peek(offset, length)
    if (known !== undefined) return known
    const end = Math.min(offset + length, this.size)
    const start = offset - (offset % BLOCK_BYTES)
    const bytes = await this.#fetch(start, Math.min(Math.ceil(end / BLOCK_BYTES) * BLOCK_BYTES, this.size) - start)
    return bytes.subarray(offset - start, end - start)
  }

  /** The same bytes without waiting, when they were read before; else undefined. */
  peek(offset: number, length: number): Uint8Array | undefined {
    const end = Math.min(offset + length, this.size)
    if (offset >= end) return new Uint8Array(0)
    for (const { start, bytes } of this.#segments) {
      if (start <= offset && end <= start + bytes.length) return bytes.subarray(offset - start, end - start)
    }
    return undefined
  }

  /** Raises the budget for a table that must be read whole, whose size the caller has already bounded. */
  allow(bytes: number): void {
    this.#budget += bytes
  }

  /** Gives the file up when our own work on it, not the waiting for its bytes, took too long. For use inside long loops. */
  checkTime(): void {
    if (this.broken !== undefined) throw this.broken.error
    if (performance.now() - this.#startedAt - this.#waitedMs > this.#timeoutMs) this.giveUp('takes too long to inspect')
    if (this.exhausted !== undefined) throw new Error(this.exhausted)
  }

  giveUp(reason: string): never {
    this.exhausted ??= reason
    throw new Error(reason)
  }

  async #fetch(start: number, length: number): Promise<Uint8Array> {
    this.#budget -= length
    if (this.#budget < 0) this.giveUp('is too scattered to inspect')
    const askedAt = performance.now()
    try {
      const bytes = await Promise.race([this.#file.read(start, length), this.#stopped])
      if (bytes.length < length) throw new Error(`The source gave ${bytes.length} of ${length} bytes at ${start}`)
      this.#segments.push({ start, bytes })
      return bytes
    } catch (error) {
      this.#break(error)
      throw error
    } finally {
      this.#waitedMs += performance.now() - askedAt
    }
  }

  #expire(): void {
    this.#break(new DOMException(`The file could not be read within ${this.#timeoutMs} ms`, 'TimeoutError'))
  }

  #break(error: unknown): void {
    this.broken ??= { error }
    this.#stop(error)
  }
}
