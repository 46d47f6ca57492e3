/** What a worker does with jobs and deliveries, for scripts/scaling.ts: the same functions, without the work itself. */
import { systemClock } from '../src/clock.ts'
import type { Opened } from '../src/db/schema.ts'
import { inTransaction } from '../src/db/transaction.ts'
import { uuidv7 } from '../src/ids.ts'
import { claim, finish } from '../src/jobs/jobs.ts'
import { claimDeliveries } from '../src/webhooks/claim.ts'
import { findSubscription, insertAttempt, updateDelivery } from '../src/webhooks/rows.ts'
import { type Operation, sideBySide } from './scaling-work.ts'

const newId = uuidv7(systemClock)

/** Beside those that wait for their time, which grow with the tables; what sends left behind goes. */
const work: Operation = {
  name: 'claim and finish a job',
  async prepare({ sql, opened }, count) {
    await sql.query(`delete from jobs where kind = 'message.send'`)
    await sql.query(
      `insert into jobs (id, kind, payload, run_at, attempt, leased_until, created_at)
       select gen_random_uuid()::text, 'message.send', '{"message_id":"' || gen_random_uuid() || '"}', 1000 + i, 0, 0, 1000
       from generate_series(1, $1::int) as i`,
      [count],
    )
    await sql.query('vacuum jobs')
    return async () => {
      const times: number[] = []
      for (;;) {
        const start = performance.now()
        const now = Date.now()
        const o = { now, realNow: now, limit: 16, leaseMs: 60_000, node: 'one', skipLocked: true }
        const jobs = await claim(opened.db, o)
        for (const job of jobs) await finish(opened.db, job)
        if (jobs.length === 0) return times
        times.push((performance.now() - start) / jobs.length)
      }
    }
  },
}

const NOBODY = { bySubscription: new Map<string, number>(), byPartner: new Map<string, number>() }
const take = (opened: Opened, now: number) =>
  claimDeliveries(opened, { now, realNow: now, limit: 16, leaseMs: 60_000, node: 'one', running: NOBODY })

/** Of the newest events, all in other chats; the post itself is left out. */
const deliver: Operation = {
  name: 'claim and record a delivery',
  async prepare({ sql, opened, partner }, count) {
    await sql.query(
      `insert into webhook_subscriptions (id, partner_id, target_url, webhook_version, subscribed_events, is_active,
         signing_secret, failures, open_until, created_at, updated_at)
       values ('scaling', $1, 'https://example.com/', '2026-02-03', '[]', 1, 'secret', 0, 0, 0, 0) on conflict do nothing`,
      [partner],
    )
    await sql.query(
      `insert into webhook_deliveries (id, subscription_id, event_id, partner_id, chat_id, status, attempts,
         next_attempt_at, leased_until, created_at)
       select scaling.uuid(1700000000000 + row_number() over (order by id desc), md5(random()::text)), 'scaling', id, $1, id,
         'pending', 0, 1000, 0, 1000
       from events order by id desc limit $2`,
      [partner, count],
    )
    await sql.query('vacuum webhook_deliveries')
    return async () => {
      const times: number[] = []
      for (;;) {
        const start = performance.now()
        const now = Date.now()
        const claimed = await take(opened, now)
        for (const { delivery } of claimed) {
          const tried = { started_at: now, latency_ms: 9, status: 200, error: null, url: 'https://example.com/' }
          await inTransaction(opened.db, async (tx) => {
            await insertAttempt(tx, { id: newId(), delivery_id: delivery.id, headers: '{}'.repeat(250), ...tried })
            await findSubscription(tx, delivery.subscription_id)
            await updateDelivery(tx, delivery.id, { leased_until: 0, finished_at: now, status: 'delivered' })
          })
        }
        if (claimed.length === 0) return times
        times.push((performance.now() - start) / claimed.length)
      }
    }
  },
}

const look: Operation = {
  name: 'look for deliveries, none due',
  prepare: async ({ opened }, count) => {
    return () =>
      sideBySide(Array.from({ length: count }, Number), async () => {
        if ((await take(opened, Date.now())).length > 0) throw new Error('a delivery was due')
      })
  },
}

export const QUEUES: Operation[] = [work, deliver, look]
