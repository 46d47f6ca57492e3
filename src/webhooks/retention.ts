/** Forgets what happened long ago: events, their deliveries and every attempt, once nothing of it is still owed. */
import { setImmediate } from 'node:timers/promises'
import type { App } from '../app.ts'
import { enqueue } from '../jobs/jobs.ts'

const EVERY_MS = 3_600_000
const ROWS_AT_A_TIME = 500

/**
 * The job retention.sweep. Deletes in small transactions, so that nobody waits long, and plans its own successor; the hour is
 * part of the successor's id, so that there is one however often it is planned.
 */
export async function sweepHistory(app: Pick<App, 'db' | 'clock'>, o: { keepMs: number }): Promise<void> {
  const now = app.clock.now()
  await planSweep(app)
  for (let removed = ROWS_AT_A_TIME; removed === ROWS_AT_A_TIME; ) {
    removed = await removeSome(app, now - o.keepMs)
    await setImmediate() // so that others get their turn between the transactions
  }
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
