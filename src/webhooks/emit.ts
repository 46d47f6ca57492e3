/**
 * Writes down that something happened, in the transaction that makes it true, with one delivery for each subscription that
 * wants to know. Nothing is sent from here: the dispatcher finds the deliveries once they are committed.
 */
import type { App } from '../app.ts'
import type { Db } from '../db/schema.ts'
import type { EventType } from './events.ts'
import { insertDeliveries, insertEvent, listActiveSubscriptions } from './rows.ts'

export type NewEvent = {
  type: EventType
  partnerId: string
  /** The line concerned: subscriptions may ask for some lines only. */
  phoneNumber: string
  chatId: string | null
  messageId: string | null
  /** That of the request which caused it; a new one for what came from outside. */
  traceId: string
  data: unknown
  /** Only where payload version 2025-01-01 differs. */
  data2025?: unknown
}

/** Call it with the transaction of the change. Returns the event's id. */
export async function emit(tx: Db, app: Pick<App, 'newId' | 'clock'>, event: NewEvent): Promise<string> {
  const now = app.clock.now()
  const id = app.newId()
  await insertEvent(tx, {
    id,
    partner_id: event.partnerId,
    type: event.type,
    chat_id: event.chatId,
    message_id: event.messageId,
    trace_id: event.traceId,
    data: JSON.stringify(event.data),
    data_2025: event.data2025 === undefined ? null : JSON.stringify(event.data2025),
    created_at: now,
  })
  const wanted = (await listActiveSubscriptions(tx, event.partnerId)).filter(
    (subscription) =>
      (JSON.parse(subscription.subscribed_events) as string[]).includes(event.type) &&
      (subscription.phone_numbers === null ||
        (JSON.parse(subscription.phone_numbers) as string[]).includes(event.phoneNumber)),
  )
  await insertDeliveries(
    tx,
    wanted.map((subscription) => ({
      id: app.newId(),
      subscription_id: subscription.id,
      event_id: id,
      partner_id: event.partnerId,
      chat_id: event.chatId,
      status: 'pending',
      attempts: 0,
      next_attempt_at: now,
      leased_until: 0,
      last_error: null,
      created_at: now,
      finished_at: null,
    })),
  )
  return id
}
