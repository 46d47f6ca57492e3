/**
 * A clock that can be moved forward by hand, so that a test of the fifteen minutes takes no time. Only what is read from
 * `now` follows: expiry, retries, retention. Waiting for a peer stays real. A restart puts it back.
 */
import { type Clock, systemClock } from '../../clock.ts'

export type MovableClock = Clock & {
  /** Milliseconds that it is ahead of real time. */
  readonly offset: number
  advance(ms: number): void
  reset(): void
}

export function movableClock(): MovableClock {
  let offset = 0
  return {
    now: () => systemClock.now() + offset,
    sleep: systemClock.sleep,
    get offset() {
      return offset
    },
    advance(ms) {
      offset += ms
    },
    reset() {
      offset = 0
    },
  }
}
