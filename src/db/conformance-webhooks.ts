/** The part of the databases' suite about webhooks: attempts are recorded once, deliveries of a chat go in their order. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { claimDeliveries } from '../webhooks/claim.ts'
import {
  cancelDeliveries,
  insertAttempt,
  insertDeliveries,
  insertSubscription,
  lockSubscription,
  recordDelivered,
  updateDelivery,
} from '../webhooks/rows.ts'
import type { Pair } from './conformance.ts'
import { newId, newPartner, sides } from './conformance-rows.ts'
import type { Opened } from './schema.ts'
import { inTransaction } from './transaction.ts'

export function webhookConformance(open: () => Promise<Pair>): void {
  test('an attempt is recorded once, and only while its delivery is there', async () => {
    await using pair = await open()
    const row = delivery(await newPartner(pair.a), 'chat')
    const tried = { id: newId(), delivery_id: row.id, started_at: 1, latency_ms: 1, url: 'x', headers: '{}' }
    const record = (opened: Opened) => inTransaction(opened.db, (tx) => insertAttempt(tx, tried))
    assert.equal(await record(pair.a), false)
    await insertDeliveries(pair.a.db, [row])
    assert.deepEqual([await record(pair.a), await record(pair.b)], [true, false])
    // A removal waits for the attempt that is being recorded, and takes it along.
    const recorded = Promise.withResolvers<void>()
    const other = { ...tried, id: newId() }
    const recording = inTransaction(pair.a.db, async (tx) => {
      assert.equal(await insertAttempt(tx, other), true)
      recorded.resolve()
      await sleep(200)
    })
    await recorded.promise
    await inTransaction(pair.b.db, async (tx) => {
      await tx.deleteFrom('webhook_deliveries').where('id', '=', row.id).execute()
      await tx.deleteFrom('webhook_attempts').where('delivery_id', '=', row.id).execute()
    })
    await recording
    assert.deepEqual(await pair.a.db.selectFrom('webhook_attempts').selectAll().execute(), [])
  })

  test('of attempts that delivered, those are recorded together whose delivery is there and whose subscription is well', async () => {
    await using pair = await open()
    const { db } = pair.a
    const partnerId = await newPartner(pair.a)
    await insertSubscription(db, subscription(partnerId))
    const failing = { ...subscription(partnerId), id: 'failing', failures: 2, target_url: 'https://failing.test/' }
    await insertSubscription(db, failing)
    const leased = { attempts: 1, leased_until: 100 }
    const [well, lost, gone] = ['1', '2', '3'].map((chat) => ({ ...delivery(partnerId, chat), ...leased }))
    const ill = { ...delivery(partnerId, '4'), ...leased, subscription_id: 'failing' }
    assert.ok(well && lost && gone)
    // Another worker is at its second attempt: what was delivered is delivered all the same.
    await insertDeliveries(db, [well, { ...lost, attempts: 2 }, ill])
    const of = (row: { id: string; subscription_id: string }) => ({
      attempt: { id: newId(), delivery_id: row.id, started_at: 1, latency_ms: 1, status: 200, url: 'x', headers: '{}' },
      subscriptionId: row.subscription_id,
    })
    const some = [well, lost, gone, ill].map(of)
    const record = (opened: Opened) => inTransaction(opened.db, (tx) => recordDelivered(tx, some, 50))
    for (const opened of [pair.a, pair.b]) assert.deepEqual([...(await record(opened))], some.slice(0, 2))
    const attempts = await db.selectFrom('webhook_attempts').select('id').orderBy('id').execute()
    assert.deepEqual(
      attempts.map(({ id }) => id),
      some.slice(0, 2).map(({ attempt }) => attempt.id),
    )
    const rows = await db.selectFrom('webhook_deliveries').selectAll().orderBy('id').execute()
    assert.deepEqual(
      rows.map(({ id, status, leased_until, finished_at }) => [id, status, leased_until, finished_at]),
      [
        [well.id, 'delivered', 0, 50],
        [lost.id, 'delivered', 0, 50],
        [ill.id, 'pending', 100, null],
      ],
    )
  })

  test('what is recorded together waits for who holds the subscription, and touches no delivery before', async () => {
    await using pair = await open()
    const partnerId = await newPartner(pair.a)
    await insertSubscription(pair.a.db, subscription(partnerId))
    const row = delivery(partnerId, 'chat')
    await insertDeliveries(pair.a.db, [row])
    const held = Promise.withResolvers<void>()
    const order: string[] = []
    const cancelling = inTransaction(pair.a.db, async (tx) => {
      await lockSubscription(tx, row.subscription_id)
      held.resolve()
      await sleep(200)
      await cancelDeliveries(tx, row.subscription_id, 40, 'it was switched off')
      order.push('cancelled')
    })
    await held.promise
    const attempt = {
      id: newId(),
      delivery_id: row.id,
      started_at: 1,
      latency_ms: 1,
      status: 200,
      url: 'x',
      headers: '{}',
    }
    await inTransaction(pair.b.db, (tx) => recordDelivered(tx, [{ attempt, subscriptionId: row.subscription_id }], 50))
    order.push('recorded')
    await cancelling
    assert.deepEqual(order, ['cancelled', 'recorded'])
    assert.equal((await pair.a.db.selectFrom('webhook_deliveries').select('status').execute())[0]?.status, 'delivered')
  })

  test('a removal waits for what is being recorded together, and takes it along', async () => {
    await using pair = await open()
    const partnerId = await newPartner(pair.a)
    await insertSubscription(pair.a.db, subscription(partnerId))
    const row = delivery(partnerId, 'chat')
    await insertDeliveries(pair.a.db, [row])
    const attempt = { id: newId(), delivery_id: row.id, started_at: 1, latency_ms: 1, url: 'x', headers: '{}' }
    const recorded = Promise.withResolvers<void>()
    const recording = inTransaction(pair.a.db, async (tx) => {
      await recordDelivered(tx, [{ attempt, subscriptionId: row.subscription_id }], 50)
      recorded.resolve()
      await sleep(200)
    })
    await recorded.promise
    await inTransaction(pair.b.db, async (tx) => {
      await tx.deleteFrom('webhook_deliveries').where('id', '=', row.id).execute()
      await tx.deleteFrom('webhook_attempts').where('delivery_id', '=', row.id).execute()
    })
    await recording
    assert.deepEqual(await pair.a.db.selectFrom('webhook_attempts').selectAll().execute(), [])
  })

  test('webhooks of a chat go one after the other in their order, however many claim', async () => {
    await using pair = await open()
    const partnerId = await newPartner(pair.a)
    await insertSubscription(pair.a.db, subscription(partnerId))
    const rows = Array.from({ length: 90 }, (_, index) => delivery(partnerId, `chat-${index % 3}`))
    await insertDeliveries(pair.a.db, rows)
    const done: string[] = []
    const under = new Map<string, string>()
    const chatOf = new Map(rows.map((row) => [row.id, row.chat_id]))
    const nothing = { bySubscription: new Map(), byPartner: new Map() }
    async function work(opened: Opened): Promise<void> {
      for (let idle = 0; idle < 20 && done.length < rows.length; ) {
        const o = { now: 10, realNow: 10, limit: 5, leaseMs: 60_000, node: 'a', running: nothing }
        const claimed = await claimDeliveries(opened, o)
        if (claimed.length === 0) {
          idle++
          await sleep(5)
        }
        for (const { delivery } of claimed) {
          const chat = chatOf.get(delivery.id) ?? assert.fail()
          assert.equal(under.get(chat), undefined, `two at once in ${chat}`)
          under.set(chat, delivery.id)
        }
        await sleep(Math.random() * 4)
        for (const { delivery } of claimed) {
          done.push(delivery.id)
          under.delete(chatOf.get(delivery.id) ?? '')
          await updateDelivery(opened.db, delivery.id, { status: 'delivered', leased_until: 0 })
        }
      }
    }
    await Promise.all(sides(pair, 6).map(work))
    for (const chat of ['chat-0', 'chat-1', 'chat-2']) {
      const inOrder = rows.filter((row) => row.chat_id === chat).map((row) => row.id)
      assert.deepEqual(
        done.filter((id) => inOrder.includes(id)),
        inOrder,
      )
    }
  })
}

const subscription = (partnerId: string) => ({
  id: 'subscription',
  partner_id: partnerId,
  target_url: 'https://receiver.test/',
  webhook_version: '2026-02-03' as const,
  subscribed_events: '[]',
  phone_numbers: null,
  is_active: 1 as const,
  signing_secret: 'whsec_',
  old_secret: null,
  old_secret_until: null,
  failures: 0,
  open_until: 0,
  created_at: 1,
  updated_at: 1,
})

const delivery = (partnerId: string, chatId: string) => ({
  id: newId(),
  subscription_id: 'subscription',
  event_id: newId(),
  partner_id: partnerId,
  chat_id: chatId,
  status: 'pending' as const,
  attempts: 0,
  next_attempt_at: 1,
  leased_until: 0,
  last_error: null,
  created_at: 1,
  finished_at: null,
})
