/**
 * Which deliveries are to be tried now: due ones of active subscriptions whose circuit is closed, in order, none before an
 * untried or running one of the same subscription and chat, and never many of one subscription.
 */
import { sql } from 'kysely'
import type { Db, Opened } from '../db/schema.ts'
import type { DeliveryRow, SubscriptionRow } from './rows.ts'

/** From this many failed attempts in a row the circuit is open, and then only one delivery at a time tries the target. */
export const FAILURES_THAT_OPEN = 5
export const CONCURRENCY_PER_SUBSCRIPTION = 16
const CANDIDATES = 500

export type Claimed = { delivery: DeliveryRow; subscription: SubscriptionRow }

/** `realNow`: leases tell whether a worker lives, so they follow real time even where the clock is moved by hand. */
export async function claimDeliveries(
  opened: Pick<Opened, 'db' | 'skipLocked'>,
  o: { now: number; realNow: number; limit: number; leaseMs: number; running: ReadonlyMap<string, number> },
): Promise<Claimed[]> {
  const full = [...o.running].filter(([, count]) => count >= CONCURRENCY_PER_SUBSCRIPTION).map(([id]) => id)
  if (!(await anyDue(opened.db, o.now))) return []
  return await opened.db.transaction().execute(async (tx) => {
    const candidates = await tx
      .selectFrom('webhook_deliveries as d')
      .innerJoin('webhook_subscriptions as s', 's.id', 'd.subscription_id')
      .select(['d.id', 'd.subscription_id', 's.failures'])
      .where('d.status', '=', sql.lit('pending'))
      .where('d.next_attempt_at', '<=', o.now)
      .where('d.leased_until', '<=', o.realNow)
      .where('s.is_active', '=', 1)
      .where('s.open_until', '<=', o.now)
      .$if(full.length > 0, (qb) => qb.where('d.subscription_id', 'not in', full))
      // Left out here, not only in choose: a backlog that waits for its probe would fill the list of candidates.
      .$if(o.running.size > 0, (qb) =>
        qb.where((eb) =>
          eb.or([eb('s.failures', '<', FAILURES_THAT_OPEN), eb('d.subscription_id', 'not in', [...o.running.keys()])]),
        ),
      )
      .where((eb) =>
        eb.not(
          eb.exists(
            eb
              .selectFrom('webhook_deliveries as e')
              .select('e.id')
              .whereRef('e.subscription_id', '=', 'd.subscription_id')
              .whereRef('e.chat_id', '=', 'd.chat_id')
              .whereRef('e.id', '<', 'd.id')
              .where('e.status', '=', sql.lit('pending'))
              .where((or) => or.or([or('e.attempts', '=', 0), or('e.leased_until', '>', o.realNow)])),
          ),
        ),
      )
      .orderBy('d.next_attempt_at')
      .orderBy('d.id')
      .limit(CANDIDATES)
      .$if(opened.skipLocked, (qb) => qb.forUpdate('d').skipLocked())
      .execute()
    const ids = choose(candidates, o)
    if (ids.length === 0) return []
    const deliveries = await tx
      .updateTable('webhook_deliveries')
      .set((eb) => ({ leased_until: o.realNow + o.leaseMs, attempts: eb('attempts', '+', 1) }))
      .where('id', 'in', ids)
      .returningAll()
      .execute()
    return await withSubscriptions(tx, deliveries)
  })
}

/** A plain read, so that an idle server writes nothing and takes no lock. */
async function anyDue(db: Db, now: number): Promise<boolean> {
  const row = await db
    .selectFrom('webhook_deliveries')
    .select('id')
    .where('status', '=', sql.lit('pending'))
    .where('next_attempt_at', '<=', now)
    .limit(1)
    .executeTakeFirst()
  return row !== undefined
}

function choose(
  candidates: readonly { id: string; subscription_id: string; failures: number }[],
  o: { limit: number; running: ReadonlyMap<string, number> },
): string[] {
  const counts = new Map(o.running)
  const chosen: string[] = []
  for (const { id, subscription_id, failures } of candidates) {
    if (chosen.length === o.limit) break
    const running = counts.get(subscription_id) ?? 0
    if (running >= (failures >= FAILURES_THAT_OPEN ? 1 : CONCURRENCY_PER_SUBSCRIPTION)) continue
    counts.set(subscription_id, running + 1)
    chosen.push(id)
  }
  return chosen
}

async function withSubscriptions(tx: Db, deliveries: DeliveryRow[]): Promise<Claimed[]> {
  const ids = [...new Set(deliveries.map((delivery) => delivery.subscription_id))]
  const subscriptions = await tx.selectFrom('webhook_subscriptions').selectAll().where('id', 'in', ids).execute()
  const byId = new Map(subscriptions.map((subscription) => [subscription.id, subscription]))
  deliveries.sort((a, b) => a.next_attempt_at - b.next_attempt_at || (a.id < b.id ? -1 : 1))
  return deliveries.flatMap((delivery) => {
    const subscription = byId.get(delivery.subscription_id)
    return subscription ? [{ delivery, subscription }] : []
  })
}
