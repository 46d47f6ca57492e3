/**
 * Which deliveries are to be tried now: due ones of active subscriptions whose circuit is closed, in order, none before an
 * untried or running one of the same subscription and chat, and never many of one subscription.
 */
import { sql } from 'kysely'
import { prepared } from '../db/prepared.ts'
import type { Db, Opened } from '../db/schema.ts'
import { FAILURES_THAT_OPEN } from './circuit.ts'
import { type DeliveryRow, type EventRow, findEvents, type SubscriptionRow } from './rows.ts'

export const CONCURRENCY_PER_SUBSCRIPTION = 16
/** So that one partner's targets that hang cannot hold up another's. */
export const CONCURRENCY_PER_PARTNER = 128
/** Looked at first, fewer where the last claim took few, and when a subscription that is full has all of those. */
const FEWEST_CANDIDATES = 32
const FEW_CANDIDATES = 64
const MANY_CANDIDATES = 500

/** How many attempts this process has under way. */
export type Running = { bySubscription: Map<string, number>; byPartner: Map<string, number> }

type ClaimedDelivery = Pick<DeliveryRow, 'id' | 'subscription_id' | 'event_id' | 'attempts' | 'next_attempt_at'>

/** `event` is undefined when it is gone. */
export type Claimed = { delivery: ClaimedDelivery; subscription: SubscriptionRow; event: EventRow | undefined }

type Asking = {
  now: number
  /** Leases tell whether a worker lives, so they follow real time even where the clock is moved by hand. */
  realNow: number
  limit: number
  leaseMs: number
  node: string
  running: Running
  /** How many the last claim took. After some it is not asked first whether any are due, and few more are looked at. */
  previous?: number
}

export async function claimDeliveries(opened: Pick<Opened, 'db' | 'skipLocked'>, o: Asking): Promise<Claimed[]> {
  const { previous = 0 } = o
  if (previous === 0 && !(await dueAtAll.first(opened.db, { now: o.now }))) return []
  const candidates = opened.skipLocked ? candidatesAmongMany : candidatesAlone
  const { now, realNow } = o
  const few = previous === 0 ? FEW_CANDIDATES : Math.min(Math.max(2 * previous, FEWEST_CANDIDATES), FEW_CANDIDATES)
  // How it will be when what is chosen runs.
  const running = { bySubscription: new Map(o.running.bySubscription), byPartner: new Map(o.running.byPartner) }
  return await opened.db.transaction().execute(async (tx) => {
    const found = await candidates.all(tx, { now, realNow, limit: few, ...limitsOf(running) })
    const ids = choose(found, o.limit, running)
    if (ids.length < o.limit && found.length === few) {
      const limits = limitsOf(running)
      if (await dueOfOthers.first(tx, { now, full: limits.full })) {
        const more = await candidates.all(tx, { now, realNow, limit: MANY_CANDIDATES, ...limits })
        const known = new Set(ids)
        const others = more.filter(({ id }) => !known.has(id))
        ids.push(...choose(others, o.limit - ids.length, running))
      }
    }
    if (ids.length === 0) return []
    const deliveries = await taking.all(tx, { ids, leasedUntil: realNow + o.leaseMs, node: o.node })
    return await withTheirs(tx, deliveries)
  })
}

type Limits = { full: readonly string[]; fullPartners: readonly string[]; busy: readonly string[] }
type Looking = Limits & { now: number; realNow: number; limit: number }

const candidates = (opened: { skipLocked: boolean }) =>
  prepared((db, o: Looking) =>
    db
      .selectFrom('webhook_deliveries as d')
      .innerJoin('webhook_subscriptions as s', 's.id', 'd.subscription_id')
      .select(['d.id', 'd.subscription_id', 'd.partner_id', 's.failures'])
      .where('d.status', '=', sql.lit('pending'))
      .where('d.next_attempt_at', '<=', o.now)
      .where('d.leased_until', '<=', o.realNow)
      .where('s.is_active', '=', 1)
      .where('s.open_until', '<=', o.now)
      .$if(o.full.length > 0, (qb) => qb.where('d.subscription_id', 'not in', o.full))
      .$if(o.fullPartners.length > 0, (qb) => qb.where('d.partner_id', 'not in', o.fullPartners))
      // Left out here, not only in choose: a backlog that waits for its probe would fill the list of candidates.
      .$if(o.busy.length > 0, (qb) =>
        qb.where((eb) => eb.or([eb('s.failures', '<', FAILURES_THAT_OPEN), eb('d.subscription_id', 'not in', o.busy)])),
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
      .limit(o.limit)
      .$if(opened.skipLocked, (qb) => qb.forUpdate('d').skipLocked()),
  )
const candidatesAlone = candidates({ skipLocked: false })
const candidatesAmongMany = candidates({ skipLocked: true })

const taking = prepared((tx, o: { ids: readonly string[]; leasedUntil: number; node: string }) =>
  tx
    .updateTable('webhook_deliveries')
    .set((eb) => ({ leased_until: o.leasedUntil, leased_by: o.node, attempts: eb('attempts', '+', 1) }))
    .where('id', 'in', o.ids)
    .returning(['id', 'subscription_id', 'event_id', 'attempts', 'next_attempt_at']),
)

// A plain read, so that an idle server writes nothing and takes no lock.
const dueAtAll = prepared((db, { now }: { now: number }) =>
  db
    .selectFrom('webhook_deliveries')
    .select('id')
    .where('status', '=', sql.lit('pending'))
    .where('next_attempt_at', '<=', now)
    .limit(1),
)

// Asks each subscription by its index, so that the backlog of one that is full is not gone through to find nothing behind it.
const dueOfOthers = prepared((db, { now, full }: { now: number; full: readonly string[] }) =>
  db
    .selectFrom('webhook_subscriptions as s')
    .select('s.id')
    .where('s.is_active', '=', 1)
    .where('s.open_until', '<=', now)
    .$if(full.length > 0, (qb) => qb.where('s.id', 'not in', full))
    .where((eb) =>
      eb.exists(
        eb
          .selectFrom('webhook_deliveries as d')
          .select('d.id')
          .whereRef('d.subscription_id', '=', 's.id')
          .where('d.status', '=', sql.lit('pending'))
          .where('d.next_attempt_at', '<=', now),
      ),
    )
    .limit(1),
)

function limitsOf({ bySubscription, byPartner }: Running): Limits {
  const full = reached(bySubscription, CONCURRENCY_PER_SUBSCRIPTION)
  return { full, fullPartners: reached(byPartner, CONCURRENCY_PER_PARTNER), busy: [...bySubscription.keys()] }
}

const reached = (counts: ReadonlyMap<string, number>, limit: number): string[] =>
  [...counts].filter(([, count]) => count >= limit).map(([id]) => id)

type Candidate = { id: string; subscription_id: string; partner_id: string; failures: number }

/** At most `limit`, each of which is counted as running. */
function choose(candidates: readonly Candidate[], limit: number, { bySubscription, byPartner }: Running): string[] {
  const chosen: string[] = []
  for (const { id, subscription_id, partner_id, failures } of candidates) {
    if (chosen.length === limit) break
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

const subscriptionsOf = prepared((tx, { ids }: { ids: readonly string[] }) =>
  tx.selectFrom('webhook_subscriptions').selectAll().where('id', 'in', ids),
)

async function withTheirs(tx: Db, deliveries: ClaimedDelivery[]): Promise<Claimed[]> {
  const ids = [...new Set(deliveries.map((delivery) => delivery.subscription_id))]
  const subscriptions = await subscriptionsOf.all(tx, { ids })
  const byId = new Map(subscriptions.map((subscription) => [subscription.id, subscription]))
  const eventIds = [...new Set(deliveries.map((delivery) => delivery.event_id))]
  const events = new Map((await findEvents(tx, eventIds)).map((event) => [event.id, event]))
  deliveries.sort((a, b) => a.next_attempt_at - b.next_attempt_at || (a.id < b.id ? -1 : 1))
  return deliveries.flatMap((delivery) => {
    const subscription = byId.get(delivery.subscription_id)
    return subscription ? [{ delivery, subscription, event: events.get(delivery.event_id) }] : []
  })
}
