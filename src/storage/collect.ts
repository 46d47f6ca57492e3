/** A body that is small by its promised size, whole in memory. */
import { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { release } from './blocks.ts'
import { BodyTooLong, BodyTooShort } from './storage.ts'

/**
 * Resolves with exactly `size` bytes, which nobody else has if the body is a request's. Rejects with BodyTooLong, BodyTooShort or the abort's reason. Does not destroy the
 * body: its owner may still have to answer on the same connection.
 */
export function collect(body: Readable, size: number, signal: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let received = 0

    function onData(chunk: Buffer): void {
      received += chunk.length
      if (received > size) fail(new BodyTooLong(`the body has more than ${size} bytes`))
      else chunks.push(chunk)
    }

    function onEnd(): void {
      if (received < size) fail(new BodyTooShort(`the body has ${received} bytes of ${size}`))
      else {
        detach()
        resolve(whole(chunks))
      }
    }

    function whole([first, ...more]: Buffer[]): Buffer {
      if (first && more.length === 0) return first
      const bytes = Buffer.concat(chunks, size)
      // node:http copies every chunk out of its parser, so nobody else has it.
      if (body instanceof IncomingMessage) for (const chunk of chunks) release(chunk)
      return bytes
    }

    const onBreak = () => fail(new BodyTooShort(`the body broke off after ${received} bytes`))
    const onAbort = () => fail(signal.reason)

    function fail(error: unknown): void {
      body.pause()
      detach()
      reject(error)
    }

    function detach(): void {
      body.off('data', onData).off('end', onEnd).off('close', onBreak).off('error', onBreak)
      signal.removeEventListener('abort', onAbort)
      body.on('error', () => {}) // what comes after the verdict is of no interest, but must not be unhandled
    }

    body.on('data', onData).on('end', onEnd).on('close', onBreak).on('error', onBreak)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    else if (body.readableEnded) onEnd()
    else if (body.destroyed) onBreak()
  })
}
