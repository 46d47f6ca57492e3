/**
 * The loop that claims due jobs and runs them side by side, each within a time limit. What throws is tried again later
 * with growing pauses; a handler that wants another rule throws JobOver or schedules its own successor.
 */
import type { Clock } from '../clock.ts'
import type { Opened } from '../db/schema.ts'
import type { Log } from '../log.ts'
import { claim, finish, type Job, type Kind, type Payload, retryAt } from './jobs.ts'

export type Handlers = { [K in Kind]: (payload: Payload[K], attempt: number, signal: AbortSignal) => Promise<void> }

const POLL_MS = 100
const CONCURRENCY = 32
const TIME_LIMIT_MS = 20_000
const LEASE_MS = 30_000
const ATTEMPTS = 12
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 600_000

export type Worker = { stop(): Promise<void> }

export function startWorker(deps: { opened: Opened; clock: Clock; log: Log }, handlers: Handlers): Worker {
  const { opened, clock, log } = deps
  const stopping = new AbortController()
  const running = new Set<Promise<void>>()

  async function run(job: Job): Promise<void> {
    try {
      const handler = handlers[job.kind] as (payload: unknown, attempt: number, signal: AbortSignal) => Promise<void>
      await handler(job.payload, job.attempt, AbortSignal.timeout(TIME_LIMIT_MS))
      await finish(opened.db, job)
    } catch (error) {
      const giveUp = job.attempt >= ATTEMPTS
      log.warn({ err: error, job: job.kind, job_id: job.id, attempt: job.attempt, giveUp }, 'job failed')
      const at = giveUp ? 'never' : clock.now() + pauseAfter(job.attempt)
      await retryAt(opened.db, job, at, clock.now(), error instanceof Error ? error.message : String(error))
    }
  }

  async function loop(): Promise<void> {
    while (!stopping.signal.aborted) {
      const jobs = await claimSome()
      for (const job of jobs) {
        const task: Promise<void> = run(job)
          .catch((error) => log.error({ err: error, job: job.kind, job_id: job.id }, 'job bookkeeping failed'))
          .finally(() => running.delete(task))
        running.add(task)
      }
      if (running.size >= CONCURRENCY) await Promise.race(running)
      else if (jobs.length === 0) await pause(POLL_MS)
    }
  }

  async function claimSome(): Promise<Job[]> {
    try {
      const limit = CONCURRENCY - running.size
      return await claim(opened.db, { now: clock.now(), limit, leaseMs: LEASE_MS, skipLocked: opened.skipLocked })
    } catch (error) {
      log.error({ err: error }, 'jobs cannot be claimed')
      await pause(1_000)
      return []
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
    /** Claims nothing more and waits for what runs. */
    async stop() {
      stopping.abort()
      await looping
      await Promise.allSettled(running)
    },
  }
}

/** 0.5 s, doubling, at most ten minutes: twelve attempts span about half an hour. */
function pauseAfter(attempt: number): number {
  return Math.min(FIRST_PAUSE_MS * 2 ** (attempt - 1), LONGEST_PAUSE_MS)
}
