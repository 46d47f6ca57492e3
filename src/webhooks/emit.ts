/**
 * Writes down that something happened, in the transaction that makes it true, with one delivery for each subscription that
 * wants to know. Nothing is sent from here: the dispatcher finds the deliveries once they are committed.
 */
import type { App } from '../app.ts'
import type { FaultKind } from '../carriers/sandbox/faults.ts'
import type { Db } from '../db/schema.ts'
import { BEHIND_PROBE_MS } from './circuit.ts'
import type { EventType } from './events.ts'
import { holdActiveSubscriptions, insertDeliveries, insertEvent } from './rows.ts'

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
export async function emit(tx: Db, app: Pick<App, 'newId' | 'clock' | 'sandbox'>, event: NewEvent): Promise<string> {
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
  const wanted = (await holdActiveSubscriptions(tx, event.partnerId)).filter(
    (subscription) =>
      (JSON.parse(subscription.subscribed_events) as string[]).includes(event.type) &&
      (subscription.phone_numbers === null ||
        (JSON.parse(subscription.phone_numbers) as string[]).includes(event.phoneNumber)),
  )
  const deliveries = wanted.flatMap((subscription) => {
    // While a circuit is open its deliveries line up behind the probe.
    const start = subscription.open_until > now ? subscription.open_until + BEHIND_PROBE_MS : now
    const { copies, ...timing } = planDelivery(app, event, start)
    return Array.from({ length: copies }, () => ({
      id: app.newId(),
      subscription_id: subscription.id,
      event_id: id,
      partner_id: event.partnerId,
      ...timing,
      status: 'pending' as const,
      attempts: 0,
      leased_until: 0,
      last_error: null,
      created_at: now,
      finished_at: null,
    }))
  })
  await insertDeliveries(tx, deliveries)
  return id
}

const REORDERED_BY_MS = 1_000

/** At once and in the order of the chat, but for faults. A delivery without a chat waits for nobody and holds nobody up. */
function planDelivery(app: Pick<App, 'sandbox'>, { type, partnerId, chatId }: NewEvent, now: number) {
  const take = (kind: FaultKind) => app.sandbox?.faults.take(kind, partnerId, { event_type: type })
  const plan = { copies: take('webhook_duplicated') ? 2 : 1, chat_id: chatId, next_attempt_at: now }
  const delayed = take('webhook_delayed')
  if (delayed) return { ...plan, next_attempt_at: now + (delayed.seconds ?? 5) * 1000 }
  if (take('webhook_reordered')) return { ...plan, chat_id: null, next_attempt_at: now + REORDERED_BY_MS }
  return plan
}
