/**
 * The circuit of a subscription: five failures in a row open it, and while it is open a single delivery at a time probes the
 * target, at pauses that grow. What waits for that is put off in the table, so that a long backlog costs nobody anything.
 */
import type { Db } from '../db/schema.ts'
import {
  advanceDeliveries,
  deferDeliveries,
  failOldDeliveries,
  findNextPending,
  type SubscriptionRow,
  updateDelivery,
  updateSubscription,
} from './rows.ts'

export const FAILURES_THAT_OPEN = 5
/** How long it stays open: doubles with each failed probe. */
const FIRST_OPEN_MS = 2_000
const LONGEST_OPEN_MS = 300_000
/** Behind the probe by more than a probe can take. */
export const BEHIND_PROBE_MS = 60_000
/** A delivery that has waited so long is given up: its news is old, and its subscriber has been told for a day. */
const LONGEST_WAIT_MS = 24 * 3_600_000

/** The target answered something. Whatever was put off may go. */
export async function closeCircuit(tx: Db, subscription: SubscriptionRow, now: number): Promise<void> {
  if (subscription.failures === 0) return
  await updateSubscription(tx, subscription.id, { failures: 0, open_until: 0 })
  if (subscription.failures >= FAILURES_THAT_OPEN) await advanceDeliveries(tx, subscription.id, now)
}

/** The target did not answer, or could not serve. `startedAt` is when the attempt began. */
export async function countFailure(
  tx: Db,
  subscription: SubscriptionRow,
  o: { startedAt: number; now: number },
): Promise<void> {
  // What was under way when the circuit opened says nothing that is not known: only probes keep it open for longer.
  if (o.startedAt < subscription.open_until) return
  const failures = subscription.failures + 1
  const open = failures >= FAILURES_THAT_OPEN
  const openMs = Math.min(FIRST_OPEN_MS * 2 ** (failures - FAILURES_THAT_OPEN), LONGEST_OPEN_MS)
  const openUntil = open ? o.now + openMs : 0
  await updateSubscription(tx, subscription.id, { failures, open_until: openUntil })
  if (!open) return
  await failOldDeliveries(tx, subscription.id, { before: o.now - LONGEST_WAIT_MS, now: o.now })
  const probe = await findNextPending(tx, subscription.id)
  if (!probe) return
  await deferDeliveries(tx, subscription.id, { before: openUntil, until: openUntil + BEHIND_PROBE_MS })
  await updateDelivery(tx, probe.id, { next_attempt_at: Math.max(probe.next_attempt_at, openUntil) })
}
