/**
 * Forgets what happened long ago: events, their deliveries and every attempt once nothing of it is still owed, and jobs that
 * were given up. A deletion is never given up: it is taken up again every hour. Idempotency keys (contract 7.1) and the audit
 * of deletions are kept for ever.
 */
import { setImmediate } from 'node:timers/promises'
import type { App } from '../app.ts'
import { enqueue, removeFailedJobs, reviveDeletions } from '../jobs/jobs.ts'

const EVERY_MS = 3_600_000
const ROWS_AT_A_TIME = 500
const FAILED_JOBS_MS = 30 * 86_400_000

/**
 * The job retention.sweep. Deletes in small transactions, so that nobody waits long, and plans its own successor; the hour is
 * part of the successor's id, so that there is one however often it is planned.
 */
export async function sweepHistory(app: Pick<App, 'db' | 'clock'>, o: { keepMs: number }): Promise<void> {
  const now = app.clock.now()
  await planSweep(app)
  await reviveDeletions(app.db, now)
  await untilFewer(() => removeFailedJobs(app.db, { before: now - FAILED_JOBS_MS, limit: ROWS_AT_A_TIME }))
  await untilFewer(() => removeSome(app, now - o.keepMs))
}

async function untilFewer(remove: () => Promise<number>): Promise<void> {
  while ((await remove()) === ROWS_AT_A_TIME) await setImmediate() // so that others get their turn between the transactions
}

export async function planSweep(app: Pick<App, 'db' | 'clock'>): Promise<void> {
  const hour = Math.floor(app.clock.now() / EVERY_MS) + 1
  await enqueue(app.db, { id: `retention:${hour}`, kind: 'retention.sweep', payload: {}, runAt: hour * EVERY_MS })
}

async function removeSome(app: Pick<App, 'db'>, before: number): Promise<number> {
  return await app.db.transaction().execute(async (tx) => {
    const old = await tx
      .selectFrom('events as e')
      .select('e.id')
      .where('e.created_at', '<', before)
      .where((eb) =>
        eb.not(
          eb.exists(
            eb
              .selectFrom('webhook_deliveries as d')
              .select('d.id')
              .whereRef('d.event_id', '=', 'e.id')
              .where('d.status', '=', 'pending'),
          ),
        ),
      )
      .limit(ROWS_AT_A_TIME)
      .execute()
    if (old.length === 0) return 0
    const events = old.map(({ id }) => id)
    const deliveries = tx.selectFrom('webhook_deliveries').select('id').where('event_id', 'in', events)
    await tx.deleteFrom('webhook_attempts').where('delivery_id', 'in', deliveries).execute()
    await tx.deleteFrom('webhook_deliveries').where('event_id', 'in', events).execute()
    await tx.deleteFrom('events').where('id', 'in', events).execute()
    return old.length
  })
}
