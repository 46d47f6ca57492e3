/**
 * Writes a body to a file: its chunks are copied together into blocks of 256 KB, each of which is shown, written in one go and used
 * again. The source is paused while two blocks are out, so memory stays below a megabyte per body whatever its size.
 */
import type { FileHandle } from 'node:fs/promises'
import { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { BLOCK_BYTES, giveBack, release, takeBlock } from './blocks.ts'
import { writeAll } from './files.ts'
import { BodyTooLong, BodyTooShort, type PutOptions } from './storage.ts'

const MOST_OUT = 2
/** What waits for the disk at most when a body ends: else all of it would be written only then. */
const FLUSH_BYTES = 16 * 1024 * 1024

/** One at a time in this process, since each keeps a thread of Node's few. */
let isFlushing = false

/**
 * Resolves with the number of bytes when all of the body is written (not synced). Rejects with BodyTooLong past `limit` bytes,
 * BodyTooShort when the body breaks off, the abort's reason, what `onChunk` or the disk said. The caller destroys the body.
 */
export function gather(file: FileHandle, body: Readable, limit: number, options: PutOptions): Promise<number> {
  const { onChunk, signal } = options
  // node:http copies every chunk out of its parser, so nobody else has it.
  const isOurs = body instanceof IncomingMessage
  return new Promise((resolve, reject) => {
    let block: Buffer | undefined
    let filled = 0
    let received = 0
    let position = 0
    let unflushed = 0
    let blocksOut = 0
    let underway = 0
    let lastWrite: Promise<void> = Promise.resolve()
    let ended = false
    let failure: unknown

    function onData(chunk: Buffer): void {
      received += chunk.length
      if (received > limit) {
        fail(new BodyTooLong(`the body has more than ${limit} bytes`))
        return
      }
      for (let taken = 0; taken < chunk.length; ) {
        block ??= takeBlock()
        const copied = chunk.copy(block, filled, taken)
        taken += copied
        filled += copied
        if (filled === BLOCK_BYTES) void pass(block)
      }
      if (isOurs) release(chunk)
      if (blocksOut >= MOST_OUT) body.pause()
    }

    async function pass(full: Buffer): Promise<void> {
      const piece = full.subarray(0, filled)
      const at = position
      position += filled
      block = undefined
      filled = 0
      blocksOut++
      underway++
      lastWrite = lastWrite.then(() => (failure === undefined ? writeAll(file, [piece], piece.length, at) : undefined))
      const shown = (async () => await onChunk?.(piece))()
      const both = await Promise.allSettled([lastWrite, shown])
      const refused = both.find((one) => one.status === 'rejected')
      giveBack(full)
      blocksOut--
      if (refused) fail(refused.reason)
      unflushed += piece.length
      if (unflushed >= FLUSH_BYTES && !ended && !isFlushing && failure === undefined) void flush()
      if (failure === undefined && blocksOut < MOST_OUT) body.resume()
      endOne()
    }

    /** What it says counts: the system tells of a lost write once. */
    async function flush(): Promise<void> {
      unflushed = 0
      underway++
      isFlushing = true
      await file.datasync().catch(fail)
      isFlushing = false
      endOne()
    }

    function endOne(): void {
      underway--
      if (underway === 0 && (ended || failure !== undefined)) settle()
    }

    function onEnd(): void {
      ended = true
      if (block) void pass(block)
      else if (underway === 0) settle()
    }

    function onClose(): void {
      if (!ended) fail(new BodyTooShort(`the body broke off after ${received} bytes`))
    }

    function onError(): void {
      fail(new BodyTooShort(`the body broke off after ${received} bytes`))
    }

    function onAbort(): void {
      fail(signal?.reason)
    }

    function fail(error: unknown): void {
      failure ??= error
      body.pause()
      if (underway === 0) settle()
    }

    /** Only ever called with nothing under way, so that the file may be closed. */
    function settle(): void {
      body.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onError)
      signal?.removeEventListener('abort', onAbort)
      if (block) giveBack(block)
      block = undefined
      body.on('error', () => {}) // what comes after the verdict is of no interest, but must not be unhandled
      if (failure !== undefined) reject(failure)
      else resolve(received)
    }

    if (signal?.aborted) return reject(signal.reason)
    body.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onError)
    signal?.addEventListener('abort', onAbort, { once: true })
    if (body.readableEnded) onEnd()
    else if (body.destroyed) onClose()
  })
}
