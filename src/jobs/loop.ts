/**
 * A loop that claims work and runs it side by side, up to a capacity, until it is stopped. What work means, and what happens
 * when it fails, is the caller's: `run` must not reject for anything that is expected.
 */
import { setImmediate } from 'node:timers/promises'
import type { Log } from '../log.ts'

export type Loop = {
  /** Claims nothing more and waits for what runs. */
  stop(): Promise<void>
}

const POLL_MS = 100
const PAUSE_AFTER_ERROR_MS = 1_000

export function startLoop<T>(o: {
  log: Log
  name: string
  capacity: number
  /** Takes up to `free` pieces of work; none means that there is nothing to do for now. */
  claim: (free: number) => Promise<T[]>
  run: (work: T) => Promise<void>
}): Loop {
  const stopping = new AbortController()
  const running = new Set<Promise<void>>()

  async function turn(): Promise<void> {
    const claimed = await o.claim(o.capacity - running.size)
    for (const work of claimed) {
      const task: Promise<void> = o
        .run(work)
        .catch((error) => o.log.error({ err: error, loop: o.name }, 'work could not be recorded'))
        .finally(() => running.delete(task))
      running.add(task)
    }
    if (running.size >= o.capacity) await Promise.race(running)
    else if (claimed.length === 0) await pause(POLL_MS)
  }

  async function loop(): Promise<void> {
    while (!stopping.signal.aborted) {
      // SQLite answers without ever leaving this thread: without this, a long backlog would let nobody else in.
      await setImmediate()
      try {
        await turn()
      } catch (error) {
        o.log.error({ err: error, loop: o.name }, 'work cannot be claimed')
        await pause(PAUSE_AFTER_ERROR_MS)
      }
    }
  }

  /** Real time, not the clock's: a held clock must not stop the loop. */
  function pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms)
      stopping.signal.addEventListener('abort', done, { once: true })
      function done() {
        clearTimeout(timer)
        stopping.signal.removeEventListener('abort', done)
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
    },
  }
}
