/**
 * Identifiers: UUID version 7 (RFC 9562 §5.7), so that rows and files sort by the time they were made and an index is
 * appended to, not scattered over. Within one millisecond the 12 bits of rand_a count up, which keeps the order.
 */
import { randomFillSync } from 'node:crypto'
import type { Clock } from './clock.ts'

export type NewId = () => string

const POOL_BYTES = 8 * 512

/** Ids sort behind `after`, in ms since 1970, even when the clock is behind it. */
export function uuidv7(clock: Pick<Clock, 'now'>, after = 0): NewId {
  const pool = Buffer.alloc(POOL_BYTES)
  let used = POOL_BYTES
  let lastMs = after
  let counter = 0
  return () => {
    if (used === POOL_BYTES) {
      randomFillSync(pool)
      used = 0
    }
    const random = pool.subarray(used, used + 8)
    used += 8
    const nowMs = clock.now()
    if (nowMs > lastMs) {
      lastMs = nowMs
      counter = random.readUInt16BE(0) & 0x07ff
    } else if (++counter > 0x0fff) {
      lastMs++
      counter = 0
    }
    const time = lastMs.toString(16).padStart(12, '0')
    const variant = ((random.readUInt8(2) & 0x3f) | 0x80).toString(16)
    const tail = random.toString('hex', 3, 8)
    const sequence = counter.toString(16).padStart(3, '0')
    const extra = random.toString('hex', 0, 1)
    return `${time.slice(0, 8)}-${time.slice(8)}-7${sequence}-${variant}${extra}-${tail}${random.toString('hex', 1, 2)}`
  }
}

/** When a UUID of version 7 was made, in ms since 1970. */
export const timeOf = (id: string): number => Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** Any RFC 9562 spelling, upper case too; callers lower it before looking it up. */
export const isUuid = (text: string): boolean => UUID.test(text)

/** 32 lower-case hex digits, new for each request: the form of W3C trace ids. */
export function newTraceId(): string {
  if (tracesLeft === 0) {
    traces = randomHex(16 * TRACES_AT_A_TIME)
    tracesLeft = TRACES_AT_A_TIME
  }
  tracesLeft--
  return traces.slice(32 * tracesLeft, 32 * (tracesLeft + 1))
}

/** A call for random bytes costs more than the bytes. */
const TRACES_AT_A_TIME = 128
let traces = ''
let tracesLeft = 0

export function randomHex(bytes: number): string {
  return randomFillSync(Buffer.allocUnsafe(bytes)).toString('hex')
}
