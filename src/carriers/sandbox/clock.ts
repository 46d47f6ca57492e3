/**
 * A clock that can be moved forward by hand, so that a test of the fifteen minutes takes no time. Only what is read from
 * `now` follows: expiry, retries, retention. Waiting for a peer stays real. A restart puts it back.
 */
import { sql } from 'kysely'
import { type Clock, systemClock } from '../../clock.ts'
import type { Db } from '../../db/schema.ts'
import { inTransaction } from '../../db/transaction.ts'

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

/** Back to real time. What was planned by the advanced clock is pulled back with it, or it would wait for its day to come. */
export async function resetClock(app: { readonly db: Db }, clock: MovableClock): Promise<void> {
  const { offset } = clock
  clock.reset()
  if (offset > 0) await pullBack(app.db, { by: offset, now: clock.now() })
}

/** The plans that a restart found, whose clock is gone: whatever lies further ahead than anything is ever planned. */
export async function pullBackStrays(db: Db, now: number): Promise<void> {
  await pullBack(db, { by: Number.MAX_SAFE_INTEGER, now, beyond: now + LONGEST_PLAN_MS })
  await db
    .updateTable('jobs')
    .set({ run_at: now })
    .where('kind', 'in', ['message.send', 'sandbox.report'])
    .where('run_at', '>', now + LONGEST_STEP_MS)
    .execute()
}

const LONGEST_PLAN_MS = 25 * 3_600_000
/** Of what the pretend network plans for a message. */
const LONGEST_STEP_MS = 60_000

async function pullBack(db: Db, o: { by: number; now: number; beyond?: number }): Promise<void> {
  const beyond = o.beyond ?? o.now
  const earlier = (column: 'run_at' | 'next_attempt_at' | 'open_until') =>
    sql<number>`case when ${sql.ref(column)} - ${o.by} > ${o.now} then ${sql.ref(column)} - ${o.by} else ${o.now} end`
  await inTransaction(db, async (tx) => {
    await tx
      .updateTable('webhook_subscriptions')
      .set({ open_until: earlier('open_until') })
      .where('open_until', '>', beyond)
      .execute()
    await tx
      .updateTable('jobs')
      .set({ run_at: earlier('run_at') })
      .where('run_at', '>', beyond)
      .execute()
    await tx
      .updateTable('webhook_deliveries')
      .set({ next_attempt_at: earlier('next_attempt_at') })
      .where('status', '=', 'pending')
      .where('next_attempt_at', '>', beyond)
      .execute()
  })
}
