/**
 * One attempt to deliver one event, its record, and what follows from its outcome; and the loop that makes them.
 * At least once: an attempt whose end was not recorded is made again, with the same id.
 */
import type { App } from '../app.ts'
import { systemClock } from '../clock.ts'
import type { NewRow, Opened } from '../db/schema.ts'
import { together } from '../db/together.ts'
import { inTransaction, persist } from '../db/transaction.ts'
import { LEASE_MS, type Loop, startLoop } from '../jobs/loop.ts'
import { RemoteError } from '../remote/error.ts'
import { closeCircuit, countFailure } from './circuit.ts'
import { type Claimed, CONCURRENCY_PER_PARTNER, claimDeliveries, type Running } from './claim.ts'
import { envelopeJson } from './events.ts'
import {
  cancelDeliveries,
  failAttempt,
  findSubscription,
  insertAttempt,
  lockSubscription,
  recordDelivered,
  renewDeliveries,
  updateDelivery,
  updateSubscription,
} from './rows.ts'
import { nextAttemptAt, outcomeOf } from './schedule.ts'
import { deliveryHeaders } from './sign.ts'

/** Twice what a partner may have under way. */
const CAPACITY = 2 * CONCURRENCY_PER_PARTNER
const TIME_LIMIT_MS = 10_000
const ANSWER_LIMIT_BYTES = 64 * 1024

export function startDispatcher(app: App, opened: Opened, o: { userAgent: string; node: string }): Loop {
  const running: Running = { bySubscription: new Map(), byPartner: new Map() }
  const recordTogether = together<Tried>((some) =>
    inTransaction(app.db, (tx) => recordDelivered(tx, some, app.clock.now())),
  )
  let previous = 0
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
        node: o.node,
        running,
        previous,
      })
      previous = claimed.length
      for (const one of claimed) count(running, one, 1)
      return claimed
    },
    async renew(running) {
      const deliveries = running.map(({ delivery }) => delivery)
      const until = systemClock.now() + LEASE_MS
      const ours = await inTransaction(app.db, (tx) => renewDeliveries(tx, deliveries, until))
      return running.filter(({ delivery }) => ours.has(delivery.id))
    },
    async run(claimed, signal) {
      try {
        await attempt(app, claimed, { userAgent: o.userAgent, recordTogether, signal })
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

/** Of an attempt that delivered. */
type Tried = { attempt: NewRow<'webhook_attempts'>; subscriptionId: string }

type Attempting = { userAgent: string; recordTogether: (tried: Tried) => Promise<boolean>; signal: AbortSignal }

async function attempt(app: App, { delivery, subscription, event }: Claimed, o: Attempting): Promise<void> {
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
    userAgent: o.userAgent,
  })
  const began = performance.now()
  const span = { name: `webhook ${event.type}`, kind: 'internal' as const, traceId: event.trace_id }
  const answer = await app.tracer.trace({ ...span, attributes: { 'satchel.attempt': delivery.attempts } }, () =>
    post(app, subscription.target_url, { headers, body, signal: o.signal }),
  )
  const latencyMs = Math.round(performance.now() - began)
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
  const outcome = outcomeOf('status' in answer ? answer.status : answer.error.kind)
  const usual = outcome === 'delivered' ? { attempt: tried, subscriptionId: subscription.id } : undefined
  await persist(async () => {
    if (usual && (await o.recordTogether(usual))) return
    await inTransaction(app.db, async (tx) => {
      if (await insertAttempt(tx, tried)) await settle({ ...app, db: tx }, delivery, startedAt, answer)
    })
  }, o.signal)
  app.metrics.webhooks.observe({ outcome }, latencyMs / 1000)
}

type Posting = { headers: Record<string, string>; body: Buffer; signal: AbortSignal }

/** Rejects with LeaseLost when another worker may be at it. */
async function post(app: App, url: string, request: Posting): Promise<Answer> {
  try {
    const { status, headers: answered } = await app.remote.post(url, {
      ...request,
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
  delivery: Claimed['delivery'],
  startedAt: number,
  answer: Answer,
): Promise<void> {
  const outcome = outcomeOf('status' in answer ? answer.status : answer.error.kind)
  const seen = await findSubscription(app.db, delivery.subscription_id)
  // The usual success changes nothing of it, and need not wait for others.
  const subscription =
    seen && outcome === 'delivered' && seen.failures === 0
      ? seen
      : await lockSubscription(app.db, delivery.subscription_id)
  const now = app.clock.now()
  const error = 'status' in answer ? `answered ${answer.status}` : answer.error.message
  if (outcome === 'delivered') {
    if (subscription) await closeCircuit(app.db, subscription, now)
    await updateDelivery(app.db, delivery.id, {
      leased_until: 0,
      finished_at: now,
      status: 'delivered',
      last_error: null,
    })
    return
  }
  const retryAfter = 'status' in answer && answer.retryAfter !== undefined ? { retryAfter: answer.retryAfter } : {}
  const next =
    outcome === 'retry' && subscription?.is_active
      ? nextAttemptAt({ attempt: delivery.attempts, now, random: Math.random, ...retryAfter })
      : 'never'
  const following = next === 'never' ? { status: 'failed' as const, finished_at: now } : { next_attempt_at: next }
  await failAttempt(app.db, delivery, { ...following, last_error: error })
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
