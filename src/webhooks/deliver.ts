/**
 * One attempt to deliver one event, its record, and what follows from its outcome; and the loop that makes them.
 * At least once: an attempt whose end was not recorded is made again, with the same id.
 */
import type { App } from '../app.ts'
import { systemClock } from '../clock.ts'
import type { Opened } from '../db/schema.ts'
import { type Loop, startLoop } from '../jobs/loop.ts'
import { RemoteError } from '../remote/error.ts'
import { closeCircuit, countFailure } from './circuit.ts'
import { type Claimed, CONCURRENCY_PER_PARTNER, claimDeliveries, type Running } from './claim.ts'
import { envelopeJson } from './events.ts'
import {
  cancelDeliveries,
  type DeliveryRow,
  findEvent,
  findSubscription,
  hasDelivery,
  insertAttempt,
  updateDelivery,
  updateSubscription,
} from './rows.ts'
import { nextAttemptAt, outcomeOf } from './schedule.ts'
import { deliveryHeaders } from './sign.ts'

/** Twice what a partner may have under way. */
const CAPACITY = 2 * CONCURRENCY_PER_PARTNER
const TIME_LIMIT_MS = 10_000
const ANSWER_LIMIT_BYTES = 64 * 1024
const LEASE_MS = 30_000

export function startDispatcher(app: App, opened: Opened, o: { userAgent: string }): Loop {
  const running: Running = { bySubscription: new Map(), byPartner: new Map() }
  return startLoop<Claimed>({
    log: app.log,
    name: 'webhooks',
    capacity: CAPACITY,
    async claim(limit) {
      const claimed = await claimDeliveries(opened, {
        now: app.clock.now(),
        realNow: systemClock.now(),
        limit,
        leaseMs: LEASE_MS,
        running,
      })
      for (const one of claimed) count(running, one, 1)
      return claimed
    },
    async run(claimed) {
      try {
        await attempt(app, claimed, o.userAgent)
      } finally {
        count(running, claimed, -1)
      }
    },
  })
}

function count(running: Running, { subscription }: Claimed, change: number): void {
  for (const [counts, id] of [
    [running.bySubscription, subscription.id],
    [running.byPartner, subscription.partner_id],
  ] as const) {
    const now = (counts.get(id) ?? 0) + change
    if (now > 0) counts.set(id, now)
    else counts.delete(id)
  }
}

type Answer = { status: number; retryAfter: string | undefined } | { error: RemoteError }

async function attempt(app: App, { delivery, subscription }: Claimed, userAgent: string): Promise<void> {
  const event = await findEvent(app.db, delivery.event_id)
  if (!event) {
    await updateDelivery(app.db, delivery.id, { status: 'failed', last_error: 'the event is gone', leased_until: 0 })
    return
  }
  const startedAt = app.clock.now()
  const body = Buffer.from(envelopeJson(event, subscription.webhook_version))
  const { old_secret, old_secret_until } = subscription
  const rotating = old_secret !== null && old_secret_until !== null && old_secret_until > startedAt
  const headers = deliveryHeaders({
    secrets: rotating ? [subscription.signing_secret, old_secret] : [subscription.signing_secret],
    eventId: event.id,
    eventType: event.type,
    subscriptionId: subscription.id,
    traceId: event.trace_id,
    version: subscription.webhook_version,
    body,
    // Receivers hold it against their own clock, which nobody moves.
    at: systemClock.now(),
    userAgent,
  })
  const began = performance.now()
  const answer = await post(app, subscription.target_url, headers, body)
  const latencyMs = Math.round(performance.now() - began)
  await app.db.transaction().execute(async (tx) => {
    // Starting over may have taken it away meanwhile.
    if (!(await hasDelivery(tx, delivery.id))) return
    const tried = {
      id: app.newId(),
      delivery_id: delivery.id,
      started_at: startedAt,
      latency_ms: latencyMs,
      status: 'status' in answer ? answer.status : null,
      error: 'error' in answer ? answer.error.message : null,
      url: subscription.target_url,
      headers: JSON.stringify(headers),
    }
    await insertAttempt(tx, tried)
    await settle({ ...app, db: tx }, delivery, startedAt, answer)
  })
  app.metrics.webhooks.observe(
    { outcome: outcomeOf('status' in answer ? answer.status : answer.error.kind) },
    latencyMs / 1000,
  )
}

async function post(app: App, url: string, headers: Record<string, string>, body: Buffer): Promise<Answer> {
  try {
    const { status, headers: answered } = await app.remote.post(url, {
      headers,
      body,
      timeoutMs: TIME_LIMIT_MS,
      maxResponseBytes: ANSWER_LIMIT_BYTES,
    })
    return { status, retryAfter: answered['retry-after'] }
  } catch (error) {
    if (error instanceof RemoteError) return { error }
    throw error
  }
}

/** Inside the transaction that records the attempt. The subscription is read anew: others were at it meanwhile. */
async function settle(
  app: Pick<App, 'db' | 'clock'>,
  delivery: DeliveryRow,
  startedAt: number,
  answer: Answer,
): Promise<void> {
  const subscription = await findSubscription(app.db, delivery.subscription_id)
  const outcome = outcomeOf('status' in answer ? answer.status : answer.error.kind)
  const now = app.clock.now()
  const error = 'status' in answer ? `answered ${answer.status}` : answer.error.message
  const done = { leased_until: 0, finished_at: now }
  if (outcome === 'delivered') {
    await updateDelivery(app.db, delivery.id, { ...done, status: 'delivered', last_error: null })
    if (subscription) await closeCircuit(app.db, subscription, now)
    return
  }
  const retryAfter = 'status' in answer && answer.retryAfter !== undefined ? { retryAfter: answer.retryAfter } : {}
  const next =
    outcome === 'retry' && subscription?.is_active
      ? nextAttemptAt({ attempt: delivery.attempts, now, random: Math.random, ...retryAfter })
      : 'never'
  const change = next === 'never' ? { ...done, status: 'failed' as const } : { leased_until: 0, next_attempt_at: next }
  await updateDelivery(app.db, delivery.id, { ...change, last_error: error })
  if (!subscription) return
  if (outcome === 'gone') {
    await updateSubscription(app.db, subscription.id, { is_active: 0, updated_at: now })
    await cancelDeliveries(app.db, subscription.id, now, 'the target is gone (410)')
    return
  }
  if (outcome === 'retry') await countFailure(app.db, subscription, { startedAt, now })
  // An answer that refuses the delivery for good comes from a target that lives.
  else if ('status' in answer) await closeCircuit(app.db, subscription, now)
}
