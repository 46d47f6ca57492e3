/** Subscriptions, events, deliveries and attempts. */
import { sql } from 'kysely'
import { prepared } from '../db/prepared.ts'
import type { Db, NewRow, Row } from '../db/schema.ts'
import { timeOf } from '../ids.ts'

export type SubscriptionRow = Row<'webhook_subscriptions'>
export type DeliveryRow = Row<'webhook_deliveries'>
export type EventRow = Row<'events'>

export async function insertSubscription(db: Db, row: NewRow<'webhook_subscriptions'>): Promise<void> {
  await db.insertInto('webhook_subscriptions').values(row).execute()
}

const subscriptionById = prepared((db, { id }: { id: string }) =>
  db.selectFrom('webhook_subscriptions').selectAll().where('id', '=', id),
)

export function findSubscription(db: Db, id: string): Promise<SubscriptionRow | undefined> {
  return subscriptionById.first(db, { id })
}

/** Nobody else changes it until the transaction ends. Taken before its deliveries are, always in this order. */
export function lockSubscription(tx: Db, id: string): Promise<SubscriptionRow | undefined> {
  return tx.selectFrom('webhook_subscriptions').selectAll().where('id', '=', id).forUpdate().executeTakeFirst()
}

export async function findOwnSubscription(db: Db, partnerId: string, id: string): Promise<SubscriptionRow | undefined> {
  const row = await findSubscription(db, id)
  return row?.partner_id === partnerId ? row : undefined
}

export function listSubscriptions(db: Db, partnerId: string): Promise<SubscriptionRow[]> {
  return db
    .selectFrom('webhook_subscriptions')
    .selectAll()
    .where('partner_id', '=', partnerId)
    .orderBy('created_at')
    .orderBy('id')
    .execute()
}

const holdActive = prepared((tx, { partnerId }: { partnerId: string }) =>
  tx
    .selectFrom('webhook_subscriptions')
    .select(['id', 'subscribed_events', 'phone_numbers', 'open_until'])
    .where('partner_id', '=', partnerId)
    .where('is_active', '=', 1)
    .orderBy('id')
    .forShare(),
)

/** They stay as they are until the transaction ends, so that nothing is owed to one that is being removed. */
export const holdActiveSubscriptions = (tx: Db, partnerId: string) => holdActive.all(tx, { partnerId })

export async function updateSubscription(db: Db, id: string, change: Partial<SubscriptionRow>): Promise<void> {
  await db.updateTable('webhook_subscriptions').set(change).where('id', '=', id).execute()
}

export async function removeSubscription(db: Db, id: string): Promise<void> {
  await db.deleteFrom('webhook_subscriptions').where('id', '=', id).execute()
}

const insertionOfEvent = prepared((db, row: NewRow<'events'>) => db.insertInto('events').values(row))

export async function insertEvent(db: Db, row: NewRow<'events'>): Promise<void> {
  await insertionOfEvent.write(db, row)
}

const eventsById = prepared((db, { ids }: { ids: readonly string[] }) =>
  db.selectFrom('events').selectAll().where('id', 'in', ids),
)

export const findEvents = (db: Db, ids: readonly string[]): Promise<EventRow[]> => eventsById.all(db, { ids })

/** When the newest event was made, in ms since 1970, whatever the clock said then; 0 without one. */
export async function newestEventTime(db: Db): Promise<number> {
  const row = await db
    .selectFrom('events')
    .select((eb) => eb.fn.max('id').as('id'))
    .executeTakeFirst()
  return row?.id ? timeOf(row.id) : 0
}

/** What happened to a partner behind the event `after`, oldest first. */
export function listEventsAfter(db: Db, partnerId: string, after: string, limit: number): Promise<EventRow[]> {
  return db
    .selectFrom('events')
    .selectAll()
    .where('partner_id', '=', partnerId)
    .where('id', '>', after)
    .orderBy('id')
    .limit(limit)
    .execute()
}

const ROWS_PER_INSERT = 500
const insertionOfDeliveries = prepared((db, { rows }: { rows: NewRow<'webhook_deliveries'>[] }) =>
  db.insertInto('webhook_deliveries').values(rows),
)

export async function insertDeliveries(db: Db, rows: NewRow<'webhook_deliveries'>[]): Promise<void> {
  for (let at = 0; at < rows.length; at += ROWS_PER_INSERT) {
    await insertionOfDeliveries.write(db, { rows: rows.slice(at, at + ROWS_PER_INSERT) })
  }
}

/** Nothing more is sent for a subscription that is gone or switched off. */
export async function cancelDeliveries(db: Db, subscriptionId: string, now: number, why: string): Promise<void> {
  await db
    .updateTable('webhook_deliveries')
    .set({ status: 'failed', last_error: why, finished_at: now })
    .where('subscription_id', '=', subscriptionId)
    .where('status', '=', 'pending')
    .execute()
}

/** Puts the pending deliveries of a subscription that would be tried before `before` off to `until`. */
export async function deferDeliveries(
  db: Db,
  subscriptionId: string,
  o: { before: number; until: number },
): Promise<void> {
  await db
    .updateTable('webhook_deliveries')
    .set({ next_attempt_at: o.until })
    .where('subscription_id', '=', subscriptionId)
    .where('status', '=', 'pending')
    .where('next_attempt_at', '<', o.before)
    .execute()
}

/** Makes all pending deliveries of a subscription due. */
export async function advanceDeliveries(db: Db, subscriptionId: string, now: number): Promise<void> {
  await db
    .updateTable('webhook_deliveries')
    .set({ next_attempt_at: now })
    .where('subscription_id', '=', subscriptionId)
    .where('status', '=', 'pending')
    .where('next_attempt_at', '>', now)
    .execute()
}

/** Gives up what has been pending since before `before`. */
export async function failOldDeliveries(
  db: Db,
  subscriptionId: string,
  o: { before: number; now: number },
): Promise<void> {
  await db
    .updateTable('webhook_deliveries')
    .set({ status: 'failed', last_error: 'the target was down for too long', finished_at: o.now, leased_until: 0 })
    .where('subscription_id', '=', subscriptionId)
    .where('status', '=', 'pending')
    .where('created_at', '<', o.before)
    .execute()
}

/** The delivery that is to be tried next. */
export function findNextPending(
  db: Db,
  subscriptionId: string,
): Promise<Pick<DeliveryRow, 'id' | 'next_attempt_at'> | undefined> {
  return db
    .selectFrom('webhook_deliveries')
    .select(['id', 'next_attempt_at'])
    .where('subscription_id', '=', subscriptionId)
    .where('status', '=', 'pending')
    .orderBy('next_attempt_at')
    .orderBy('id')
    .limit(1)
    .executeTakeFirst()
}

/** How many subscriptions a partner has. */
export async function countSubscriptions(db: Db, partnerId: string): Promise<number> {
  const row = await db
    .selectFrom('webhook_subscriptions')
    .select((eb) => eb.fn.countAll().as('count'))
    .where('partner_id', '=', partnerId)
    .executeTakeFirst()
  return Number(row?.count ?? 0)
}

const changeOfDelivery = prepared((db, { id, change }: { id: string; change: Partial<DeliveryRow> }) =>
  db.updateTable('webhook_deliveries').set(change).where('id', '=', id),
)

export async function updateDelivery(db: Db, id: string, change: Partial<DeliveryRow>): Promise<void> {
  await changeOfDelivery.write(db, { id, change })
}

/** A delivery that is under way: whoever claims it next counts one attempt more. */
type UnderWay = Pick<DeliveryRow, 'id' | 'attempts'>

/** Lengthens the leases of deliveries that are under way; resolves with the ids that nobody else has claimed since. */
export async function renewDeliveries(
  db: Db,
  deliveries: readonly UnderWay[],
  leasedUntil: number,
): Promise<Set<string>> {
  const rows = await db
    .updateTable('webhook_deliveries')
    .set({ leased_until: leasedUntil })
    .where(
      'id',
      'in',
      deliveries.map((delivery) => delivery.id),
    )
    .where('leased_until', '>', 0)
    .returning(['id', 'attempts'])
    .execute()
  const attempts = new Map(rows.map(({ id, attempts }) => [id, attempts]))
  return new Set(deliveries.filter(({ id, attempts: own }) => attempts.get(id) === own).map(({ id }) => id))
}

type Failing = { last_error: string } & ({ next_attempt_at: number } | { status: 'failed'; finished_at: number })

/** After an attempt that failed, unless the lease was lost and another worker has begun one. */
export async function failAttempt(db: Db, delivery: UnderWay, change: Failing): Promise<void> {
  await db
    .updateTable('webhook_deliveries')
    .set({ ...change, leased_until: 0 })
    .where('id', '=', delivery.id)
    .where('status', '=', 'pending')
    .where('attempts', '=', delivery.attempts)
    .execute()
}

// A lock that only a removal waits for: others may change the delivery.
const holdDelivery = prepared((tx, { id }: { id: string }) =>
  tx.selectFrom('webhook_deliveries').select('id').where('id', '=', id).forKeyShare(),
)
const insertionOfAttempt = prepared((tx, row: NewRow<'webhook_attempts'>) =>
  tx
    .insertInto('webhook_attempts')
    .values(row)
    .onConflict((oc) => oc.column('id').doNothing()),
)

/** False when it is on record already, or its delivery was taken away meanwhile. */
export async function insertAttempt(tx: Db, row: NewRow<'webhook_attempts'>): Promise<boolean> {
  if (!(await holdDelivery.first(tx, { id: row.delivery_id }))) return false
  return (await insertionOfAttempt.write(tx, row)) === 1
}

type Delivered = { attempt: NewRow<'webhook_attempts'>; subscriptionId: string }

const holdAmong = prepared((tx, { ids }: { ids: readonly string[] }) =>
  tx.selectFrom('webhook_subscriptions').select(['id', 'failures']).where('id', 'in', ids).orderBy('id').forKeyShare(),
)
const deliveredAmong = prepared((tx, o: { ids: readonly string[]; now: number }) =>
  tx
    .updateTable('webhook_deliveries')
    .set({ leased_until: 0, finished_at: o.now, status: sql.lit('delivered' as const), last_error: null })
    .where('id', 'in', o.ids)
    .returning('id'),
)
const insertionOfAttempts = prepared((tx, { rows }: { rows: NewRow<'webhook_attempts'>[] }) =>
  tx
    .insertInto('webhook_attempts')
    .values(rows)
    .onConflict((oc) => oc.column('id').doNothing()),
)

/**
 * Records attempts that delivered, and their deliveries as delivered; may be repeated. Returns those it recorded: not one
 * whose delivery was taken away meanwhile, nor one whose subscription counts failures, which a success has to end.
 */
export async function recordDelivered<T extends Delivered>(tx: Db, some: T[], now: number): Promise<Set<T>> {
  const subscriptions = [...new Set(some.map(({ subscriptionId }) => subscriptionId))]
  const held = await holdAmong.all(tx, { ids: subscriptions })
  const failing = new Set(held.filter(({ failures }) => failures > 0).map(({ id }) => id))
  const healthy = some.filter(({ subscriptionId }) => !failing.has(subscriptionId))
  if (healthy.length === 0) return new Set()
  const ids = [...new Set(healthy.map(({ attempt }) => attempt.delivery_id))]
  // A removal waits for the row that was changed, and takes the attempt along.
  const there = new Set((await deliveredAmong.all(tx, { ids, now })).map(({ id }) => id))
  const recorded = healthy.filter(({ attempt }) => there.has(attempt.delivery_id))
  if (recorded.length > 0) await insertionOfAttempts.write(tx, { rows: recorded.map(({ attempt }) => attempt) })
  return new Set(recorded)
}

/** Frees what a node was delivering that is gone, so that it need not wait for the end of its leases; or whatever node it was. */
export async function releaseDeliveries(db: Db, node: string | 'any'): Promise<void> {
  await db
    .updateTable('webhook_deliveries')
    .set({ leased_until: 0 })
    .where('status', '=', 'pending')
    .where('leased_until', '>', 0)
    .$if(node !== 'any', (qb) => qb.where('leased_by', '=', node))
    .execute()
}
