/**
 * Which deliveries are to be tried now: due ones of active subscriptions whose circuit is closed, in order, none before an
 * untried or running one of the same subscription and chat, and never many of one subscription.
 */
import { sql } from 'kysely'
import type { Db, Opened } from '../db/schema.ts'
import { FAILURES_THAT_OPEN } from './circuit.ts'
import type { DeliveryRow, SubscriptionRow } from './rows.ts'

export const CONCURRENCY_PER_SUBSCRIPTION = 16
/** So that one partner's targets that hang cannot hold up another's. */
export const CONCURRENCY_PER_PARTNER = 128
const CANDIDATES = 500

/** How many attempts this process has under way. */
export type Running = { bySubscription: Map<string, number>; byPartner: Map<string, number> }

export type Claimed = { delivery: DeliveryRow; subscription: SubscriptionRow }

/** `realNow`: leases tell whether a worker lives, so they follow real time even where the clock is moved by hand. */
export async function claimDeliveries(
  opened: Pick<Opened, 'db' | 'skipLocked'>,
  o: { now: number; realNow: number; limit: number; leaseMs: number; node: string; running: Running },
): Promise<Claimed[]> {
  const busy = [...o.running.bySubscription.keys()]
  const full = reached(o.running.bySubscription, CONCURRENCY_PER_SUBSCRIPTION)
  const fullPartners = reached(o.running.byPartner, CONCURRENCY_PER_PARTNER)
  if (!(await anyDue(opened.db, o.now))) return []
  return await opened.db.transaction().execute(async (tx) => {
    const candidates = await tx
      .selectFrom('webhook_deliveries as d')
      .innerJoin('webhook_subscriptions as s', 's.id', 'd.subscription_id')
      .select(['d.id', 'd.subscription_id', 'd.partner_id', 's.failures'])
      .where('d.status', '=', sql.lit('pending'))
      .where('d.next_attempt_at', '<=', o.now)
      .where('d.leased_until', '<=', o.realNow)
      .where('s.is_active', '=', 1)
      .where('s.open_until', '<=', o.now)
      .$if(full.length > 0, (qb) => qb.where('d.subscription_id', 'not in', full))
      .$if(fullPartners.length > 0, (qb) => qb.where('d.partner_id', 'not in', fullPartners))
      // Left out here, not only in choose: a backlog that waits for its probe would fill the list of candidates.
      .$if(busy.length > 0, (qb) =>
        qb.where((eb) => eb.or([eb('s.failures', '<', FAILURES_THAT_OPEN), eb('d.subscription_id', 'not in', busy)])),
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
      .set((eb) => ({ leased_until: o.realNow + o.leaseMs, leased_by: o.node, attempts: eb('attempts', '+', 1) }))
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

const reached = (counts: ReadonlyMap<string, number>, limit: number): string[] =>
  [...counts].filter(([, count]) => count >= limit).map(([id]) => id)

type Candidate = { id: string; subscription_id: string; partner_id: string; failures: number }

function choose(candidates: readonly Candidate[], o: { limit: number; running: Running }): string[] {
  const bySubscription = new Map(o.running.bySubscription)
  const byPartner = new Map(o.running.byPartner)
  const chosen: string[] = []
  for (const { id, subscription_id, partner_id, failures } of candidates) {
    if (chosen.length === o.limit) break
    const ofSubscription = bySubscription.get(subscription_id) ?? 0
    const ofPartner = byPartner.get(partner_id) ?? 0
    if (ofSubscription >= (failures >= FAILURES_THAT_OPEN ? 1 : CONCURRENCY_PER_SUBSCRIPTION)) continue
    if (ofPartner >= CONCURRENCY_PER_PARTNER) continue
    bySubscription.set(subscription_id, ofSubscription + 1)
    byPartner.set(partner_id, ofPartner + 1)
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
