/** Subscriptions, events, deliveries and attempts. */
import type { Db, NewRow, Row } from '../db/schema.ts'

export type SubscriptionRow = Row<'webhook_subscriptions'>
export type DeliveryRow = Row<'webhook_deliveries'>
export type EventRow = Row<'events'>

export async function insertSubscription(db: Db, row: NewRow<'webhook_subscriptions'>): Promise<void> {
  await db.insertInto('webhook_subscriptions').values(row).execute()
}

export function findSubscription(db: Db, id: string): Promise<SubscriptionRow | undefined> {
  return db.selectFrom('webhook_subscriptions').selectAll().where('id', '=', id).executeTakeFirst()
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

export function listActiveSubscriptions(db: Db, partnerId: string) {
  return db
    .selectFrom('webhook_subscriptions')
    .select(['id', 'subscribed_events', 'phone_numbers'])
    .where('partner_id', '=', partnerId)
    .where('is_active', '=', 1)
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

export async function hasDelivery(db: Db, id: string): Promise<boolean> {
  const row = await db.selectFrom('webhook_deliveries').select('id').where('id', '=', id).executeTakeFirst()
  return row !== undefined
}

export async function updateDelivery(db: Db, id: string, change: Partial<DeliveryRow>): Promise<void> {
  await db.updateTable('webhook_deliveries').set(change).where('id', '=', id).execute()
}

export async function insertAttempt(db: Db, row: NewRow<'webhook_attempts'>): Promise<void> {
  await db.insertInto('webhook_attempts').values(row).execute()
}

/** Frees what a process that is gone was delivering. Only for a database that has no other worker. */
export async function releaseDeliveries(db: Db): Promise<void> {
  await db
    .updateTable('webhook_deliveries')
    .set({ leased_until: 0 })
    .where('status', '=', 'pending')
    .where('leased_until', '>', 0)
    .execute()
}
