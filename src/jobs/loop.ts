/**
 * A loop that claims work and runs it side by side, up to a capacity, until it is stopped. Claimed work is ours for the time
 * of a lease, which is renewed while the work runs: a process that dies loses it soon, and one that cannot renew it stops.
 * What work means, and what happens when it fails, is the caller's: `run` must not reject for anything that is expected.
 */
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import type { Log } from '../log.ts'

export type Loop = {
  /** Claims nothing more and waits for what runs. */
  stop(): Promise<void>
}

const POLL_MS = 100
/** Between two looks for more: by then several pieces of work have made room, and whoever else wants this thread has had it. */
const REST_MS = 3
const PAUSE_AFTER_ERROR_MS = 1_000
/** How long after a crash the work of a process is another's. */
export const LEASE_MS = 10_000
const RENEW_MS = LEASE_MS / 4

/** Why work was told to stop: someone else may have it by now. */
export class LeaseLost extends Error {
  override name = 'LeaseLost'
}

export function startLoop<T>(o: {
  log: Log
  name: string
  capacity: number
  /** Takes up to `free` pieces of work for LEASE_MS; fewer mean that there is no more to do for now. */
  claim: (free: number) => Promise<T[]>
  /** Takes these for LEASE_MS from now; resolves with those that are still ours. */
  renew: (running: T[]) => Promise<T[]>
  run: (work: T, signal: AbortSignal) => Promise<void>
}): Loop {
  const stopping = new AbortController()
  const running = new Set<Promise<void>>()
  const held = new Map<T, { until: number; lose: AbortController }>()
  /** How many pieces of work have ended, and what to do when one does. */
  let ended = 0
  let onEnd = () => {}

  async function turn(): Promise<void> {
    const until = performance.now() + LEASE_MS
    const before = ended
    const free = o.capacity - running.size
    const claimed = await o.claim(free)
    for (const work of claimed) {
      const lose = new AbortController()
      held.set(work, { until, lose })
      const task: Promise<void> = o
        .run(work, lose.signal)
        .catch((error) => o.log.error({ err: error, loop: o.name }, 'work could not be recorded'))
        .finally(() => {
          running.delete(task)
          held.delete(work)
          ended++
          onEnd()
        })
      running.add(task)
    }
    if (running.size >= o.capacity) await Promise.race(running)
    // What has ended may have made way for what waited behind it.
    else if (claimed.length < free && ended === before) await pause(POLL_MS, { untilEnd: true })
  }

  async function loop(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await turn()
      } catch (error) {
        o.log.error({ err: error, loop: o.name }, 'work cannot be claimed')
        await pause(PAUSE_AFTER_ERROR_MS)
      }
      // SQLite answers without ever leaving this thread: without this, a long backlog would let nobody else in.
      if (running.size > 0) await sleep(REST_MS)
      else await setImmediate()
    }
  }

  /** Work that is not ours any more, or will not be when the next turn comes, is told to stop. */
  async function renew(): Promise<void> {
    if (held.size === 0) return
    const until = performance.now() + LEASE_MS
    const asked = [...held.keys()]
    try {
      const ours = new Set(await o.renew(asked))
      for (const work of asked) {
        const lease = held.get(work)
        if (lease) lease.until = ours.has(work) ? until : 0
      }
    } catch (error) {
      o.log.warn({ err: error, loop: o.name }, 'leases cannot be renewed')
    }
    for (const { until, lose } of held.values()) {
      if (until < performance.now() + RENEW_MS) lose.abort(new LeaseLost('the lease could not be renewed'))
    }
  }

  let renewing = Promise.resolve()
  const renewal = setInterval(() => {
    renewing = renewing.then(renew)
  }, RENEW_MS)

  /** Real time, not the clock's: a held clock must not stop the loop. `untilEnd`: no longer than until a piece of work ends. */
  function pause(ms: number, { untilEnd = false } = {}): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms)
      if (untilEnd) onEnd = done
      stopping.signal.addEventListener('abort', done, { once: true })
      function done() {
        clearTimeout(timer)
        stopping.signal.removeEventListener('abort', done)
        onEnd = () => {}
        resolve()
      }
    })
  }

  const looping = loop()
  return {
    async stop() {
      stopping.abort()
      await looping
      await Promise.allSettled(running)
      clearInterval(renewal)
      await renewing
    },
  }
}
