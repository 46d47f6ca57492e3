/**
 * Runs due jobs, each within a time limit. What throws is tried again later with growing pauses, and given up in the end; a
 * handler that wants another rule schedules its own successor.
 */
import { type Clock, systemClock } from '../clock.ts'
import type { Opened } from '../db/schema.ts'
import { persist } from '../db/transaction.ts'
import type { Log } from '../log.ts'
import { claim, finish, type Job, type Kind, type Payload, renewJobs, retryAt } from './jobs.ts'
import { LEASE_MS, type Loop, startLoop } from './loop.ts'

export type Handlers = { [K in Kind]: (payload: Payload[K], attempt: number, signal: AbortSignal) => Promise<void> }

const CONCURRENCY = 32
const TIME_LIMIT_MS = 20_000
const ATTEMPTS = 12
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 600_000

export function startWorker(deps: { opened: Opened; node: string; clock: Clock; log: Log }, handlers: Handlers): Loop {
  const { opened, node, clock, log } = deps

  async function run(job: Job, lost: AbortSignal): Promise<void> {
    try {
      const handler = handlers[job.kind] as (payload: unknown, attempt: number, signal: AbortSignal) => Promise<void>
      await withinLimit(lost, (signal) => handler(job.payload, job.attempt, signal))
      await persist(() => finish(opened.db, job), lost)
    } catch (error) {
      const giveUp = job.attempt >= ATTEMPTS
      log.warn({ err: error, job: job.kind, job_id: job.id, attempt: job.attempt, giveUp }, 'job failed')
      const at = giveUp ? 'never' : clock.now() + pauseAfter(job.attempt)
      await retryAt(opened.db, job, at, clock.now(), error instanceof Error ? error.message : String(error))
    }
  }

  return startLoop({
    log,
    name: 'jobs',
    capacity: CONCURRENCY,
    claim: (limit) =>
      claim(opened.db, {
        now: clock.now(),
        realNow: systemClock.now(),
        limit,
        leaseMs: LEASE_MS,
        node,
        skipLocked: opened.skipLocked,
      }),
    renew: (jobs) => renewJobs(opened.db, jobs, systemClock.now() + LEASE_MS),
    run,
  })
}

/** AbortSignal.timeout would keep each of a second's hundreds of jobs for another twenty. */
async function withinLimit(lost: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const limit = new AbortController()
  const late = () => limit.abort(new Error(`it took longer than ${TIME_LIMIT_MS / 1000} s`))
  const timer = setTimeout(late, TIME_LIMIT_MS)
  const forward = () => limit.abort(lost.reason)
  lost.addEventListener('abort', forward)
  if (lost.aborted) forward()
  try {
    await work(limit.signal)
  } finally {
    clearTimeout(timer)
    lost.removeEventListener('abort', forward)
  }
}

/** 0.5 s, doubling, at most ten minutes: twelve attempts span about half an hour. */
function pauseAfter(attempt: number): number {
  return Math.min(FIRST_PAUSE_MS * 2 ** (attempt - 1), LONGEST_PAUSE_MS)
}
