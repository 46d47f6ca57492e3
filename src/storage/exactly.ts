/**
 * A body on its way to a server that keeps whatever is complete. The last bytes are held back until the source has ended
 * with the size that was promised, so a body that is too long, too short or broken can never become complete over there.
 */
import { Readable } from 'node:stream'
import { BodyTooLong, BodyTooShort, type PutOptions } from './storage.ts'

const HIGH_WATER_BYTES = 256 * 1024
/** Chunks that `onChunk` is not through with. */
const MOST_NEEDED = 8

export type ExactBody = Readable & {
  /** Since when (ms) the reader has been slow: it has not asked for more although there is some, or has everything. */
  readonly waitingSince: number | undefined
}

/**
 * Ends when exactly `size` bytes have passed; otherwise errors with BodyTooLong or BodyTooShort. `onChunk` is that of a put.
 * Does not destroy the source: its owner may still have to answer on the same connection.
 */
export function exactly(body: Readable, size: number, { onChunk }: Pick<PutOptions, 'onChunk'> = {}): ExactBody {
  let received = 0
  let neededElsewhere = 0
  let held: Buffer | undefined
  const out = new Readable({
    highWaterMark: HIGH_WATER_BYTES,
    read() {
      state.waitingSince = undefined
      if (neededElsewhere < MOST_NEEDED) body.resume()
    },
    destroy(error, done) {
      body.pause()
      detach()
      done(error)
    },
  })
  const state = Object.assign(out, { waitingSince: undefined as number | undefined })

  function onData(chunk: Buffer): void {
    received += chunk.length
    if (received > size) {
      fail(new BodyTooLong(`the body has more than ${size} bytes`))
      return
    }
    if (chunk.length === 0) return
    const until = onChunk?.(chunk)
    if (until) waitFor(until)
    if (held !== undefined && !out.push(held)) {
      state.waitingSince = Date.now()
      body.pause()
    }
    held = chunk
  }

  function waitFor(until: Promise<void>): void {
    neededElsewhere++
    if (neededElsewhere >= MOST_NEEDED) body.pause()
    until.then(() => {
      neededElsewhere--
      if (!out.destroyed && state.waitingSince === undefined) body.resume()
    }, fail)
  }

  function onEnd(): void {
    if (received < size) {
      fail(new BodyTooShort(`the body has ${received} bytes of ${size}`))
      return
    }
    detach()
    if (held !== undefined) out.push(held)
    out.push(null)
    state.waitingSince = Date.now()
  }

  const onBreak = () => fail(new BodyTooShort(`the body broke off after ${received} bytes`))

  function fail(error: Error): void {
    out.destroy(error)
  }

  function detach(): void {
    body.off('data', onData).off('end', onEnd).off('close', onBreak).off('error', onBreak)
    body.on('error', () => {}) // what comes after the verdict is of no interest, but must not be unhandled
  }

  body.on('data', onData).on('end', onEnd).on('close', onBreak).on('error', onBreak)
  body.pause()
  if (body.readableEnded) onEnd()
  else if (body.destroyed) onBreak()
  return state
}
