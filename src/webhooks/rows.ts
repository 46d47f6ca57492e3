/** Subscriptions, events, deliveries and attempts. */
import type { Db, NewRow, Row } from '../db/schema.ts'
import { timeOf } from '../ids.ts'

export type SubscriptionRow = Row<'webhook_subscriptions'>
export type DeliveryRow = Row<'webhook_deliveries'>
export type EventRow = Row<'events'>

export async function insertSubscription(db: Db, row: NewRow<'webhook_subscriptions'>): Promise<void> {
  await db.insertInto('webhook_subscriptions').values(row).execute()
}

export function findSubscription(db: Db, id: string): Promise<SubscriptionRow | undefined> {
  return db.selectFrom('webhook_subscriptions').selectAll().where('id', '=', id).executeTakeFirst()
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

/** They stay as they are until the transaction ends, so that nothing is owed to one that is being removed. */
export function holdActiveSubscriptions(tx: Db, partnerId: string) {
  return tx
    .selectFrom('webhook_subscriptions')
    .select(['id', 'subscribed_events', 'phone_numbers', 'open_until'])
    .where('partner_id', '=', partnerId)
    .where('is_active', '=', 1)
    .orderBy('id')
    .forShare()
    .execute()
}

export async function updateSubscription(db: Db, id: string, change: Partial<SubscriptionRow>): Promise<void> {
  await db.updateTable('webhook_subscriptions').set(change).where('id', '=', id).execute()
}

export async function removeSubscription(db: Db, id: string): Promise<void> {
  await db.deleteFrom('webhook_subscriptions').where('id', '=', id).execute()
}

export async function insertEvent(db: Db, row: NewRow<'events'>): Promise<void> {
  await db.insertInto('events').values(row).execute()
}

export function findEvent(db: Db, id: string): Promise<EventRow | undefined> {
  return db.selectFrom('events').selectAll().where('id', '=', id).executeTakeFirst()
}

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

export async function insertDeliveries(db: Db, rows: NewRow<'webhook_deliveries'>[]): Promise<void> {
  for (let at = 0; at < rows.length; at += ROWS_PER_INSERT) {
    await db
      .insertInto('webhook_deliveries')
      .values(rows.slice(at, at + ROWS_PER_INSERT))
      .execute()
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

export async function updateDelivery(db: Db, id: string, change: Partial<DeliveryRow>): Promise<void> {
  await db.updateTable('webhook_deliveries').set(change).where('id', '=', id).execute()
}

/** Lengthens the leases of deliveries that are under way; resolves with the ids that nobody else has claimed since. */
export async function renewDeliveries(
  db: Db,
  deliveries: readonly DeliveryRow[],
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

/** Plans the next attempt, unless the lease was lost and another worker has begun one. */
export async function postponeDelivery(db: Db, delivery: DeliveryRow, at: number, error: string): Promise<void> {
  await db
    .updateTable('webhook_deliveries')
    .set({ leased_until: 0, next_attempt_at: at, last_error: error })
    .where('id', '=', delivery.id)
    .where('status', '=', 'pending')
    .where('attempts', '=', delivery.attempts)
    .execute()
}

/** False when it is on record already, or its delivery was taken away meanwhile. */
export async function insertAttempt(tx: Db, row: NewRow<'webhook_attempts'>): Promise<boolean> {
  // A lock that only a removal waits for: others may change the delivery.
  const delivery = tx.selectFrom('webhook_deliveries').select('id').where('id', '=', row.delivery_id).forKeyShare()
  if (!(await delivery.executeTakeFirst())) return false
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('webhook_attempts')
    .values(row)
    .onConflict((oc) => oc.column('id').doNothing())
    .executeTakeFirst()
  return numInsertedOrUpdatedRows === 1n
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
