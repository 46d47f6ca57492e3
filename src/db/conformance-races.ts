/** The part of the database's suite in which many do the same at once: jobs, chats, keys, reports, webhooks, deletions. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { App } from '../app.ts'
import { getSendable } from '../attachments/get.ts'
import { holdAttachments, insertAttachment, removeAttachment } from '../attachments/rows.ts'
import { carryOut } from '../carriers/sandbox/steps.ts'
import { findOrCreateChat } from '../chats/open.ts'
import { type Chat, findChat } from '../chats/rows.ts'
import { systemClock } from '../clock.ts'
import { uuidv7 } from '../ids.ts'
import { claim, enqueue, finish, type Job, releaseJobs, renewJobs, retryAt } from '../jobs/jobs.ts'
import { acceptMessage } from '../messages/accept.ts'
import { reportDelivery } from '../messages/deliver.ts'
import { once } from '../messages/idempotency.ts'
import { setCarrierRef } from '../messages/rows.ts'
import { insertPartner, insertPhoneNumber } from '../partners/rows.ts'
import { claimDeliveries } from '../webhooks/claim.ts'
import { insertAttempt, insertDeliveries, insertSubscription, updateDelivery } from '../webhooks/rows.ts'
import type { Pair } from './conformance.ts'
import type { Opened } from './schema.ts'
import { inTransaction } from './transaction.ts'

const newId = uuidv7(systemClock)
const LINE = '+12025550100'
const NONE = { parts: [{ type: 'text' as const, value: 'Hello', text_decorations: null }], fetched: [] }

export function raceConformance(open: () => Promise<Pair>): void {
  test('many claimers never have the same job, and none is left over', async () => {
    await using pair = await open()
    const jobs = 400
    for (let count = 0; count < jobs; count++) await enqueueSweep(pair.a, `job-${count}`)
    const running = new Set<string>()
    const ran: string[] = []
    async function work(opened: Opened): Promise<void> {
      for (let claimed = await take(opened, 3); claimed.length > 0; claimed = await take(opened, 3)) {
        for (const job of claimed) {
          assert.ok(!running.has(job.id), `${job.id} runs twice`)
          running.add(job.id)
        }
        await sleep(Math.random() * 5)
        for (const job of claimed) {
          running.delete(job.id)
          ran.push(job.id)
          await finish(opened.db, job)
        }
      }
    }
    await Promise.all(Array.from({ length: 16 }, (_, index) => work(index % 2 ? pair.a : pair.b)))
    // Who came when all that was left was locked has gone home: what is left is for one.
    await work(pair.a)
    assert.equal(new Set(ran).size, jobs)
    assert.equal(ran.length, jobs)
  })

  test('jobs are claimed oldest first, once they are due, and again when their lease has ended', async () => {
    await using pair = await open()
    const { db, skipLocked } = pair.a
    for (const [id, runAt] of [
      ['late', 300],
      ['early', 100],
      ['middle', 200],
      ['future', 5_000],
    ] as const)
      await enqueueSweep(pair.a, id, runAt)
    await enqueueSweep(pair.a, 'early', 1)
    const at = (realNow: number) => ({ now: 1_000, realNow, limit: 10, leaseMs: 50, node: 'a', skipLocked })
    const ids = (jobs: Job[]) => jobs.map((job) => `${job.id} ${job.attempt}`)
    assert.deepEqual(ids(await claim(db, { ...at(1_000), limit: 2 })), ['early 1', 'middle 1'])
    const [late] = await claim(db, at(1_000))
    assert.equal(late?.id, 'late')
    assert.deepEqual(await claim(db, at(1_049)), [])
    const again = await claim(pair.b.db, at(1_050))
    assert.deepEqual(ids(again), ['early 2', 'middle 2', 'late 2'])
    // Who lost a lease changes nothing any more, and is told so.
    await retryAt(db, late, 0, 1_060, 'too late')
    assert.deepEqual(await renewJobs(db, [late], 9_000), [])
    assert.deepEqual(await claim(db, at(1_070)), [])
    assert.equal((await renewJobs(pair.b.db, again, 9_000)).length, 3)
    assert.deepEqual(await claim(db, at(8_999)), [])
    await releaseJobs(db, 'b')
    assert.deepEqual(await claim(db, at(8_999)), [])
    await releaseJobs(db, 'a')
    assert.deepEqual(ids(await claim(db, at(8_999))), ['early 3', 'middle 3', 'late 3'])
  })

  test('many that open the same chat at once get the same one, made once', async () => {
    await using pair = await open()
    const partnerId = await newPartner(pair.a)
    for (let round = 0; round < 5; round++) {
      const who = { partnerId, phoneNumber: LINE, recipients: [`+1415555010${round}`] }
      const made = await Promise.all(
        sides(pair, 10).map(({ db }) =>
          inTransaction(db, async (tx) => await findOrCreateChat(tx, { newId }, who, { service: 'iMessage', now: 1 })),
        ),
      )
      assert.equal(new Set(made.map(({ chat }) => chat.id)).size, 1)
      assert.equal(made.filter(({ isNew }) => isNew).length, 1)
      for (const { chat } of made) assert.equal(chat.handles.length, 2)
    }
  })

  test('an idempotency key that comes to many nodes at once sends one message, and all get its answer', async () => {
    await using pair = await open()
    const chat = await newChat(pair.a)
    const partnerId = chat.partner_id
    const answers = await Promise.all(
      sides(pair, 10).map(({ db }) => {
        // Each is a node of its own: a wrapper of the database has no memory in common with the others.
        const node = { ...appOf({ db: db.withoutPlugins() }), newId }
        return once(node, { partnerId, key: 'key' }, async (remember) =>
          inTransaction(node.db, async (tx) => {
            const message = await accept(tx, chat)
            const answer = { status: 202 as const, body: { id: message.id } }
            await remember(tx, message.id, answer)
            return answer
          }),
        )
      }),
    )
    for (const { body } of answers) assert.deepEqual(body, answers[0]?.body)
    const rows = await pair.a.db.selectFrom('messages').select('id').execute()
    assert.deepEqual(
      rows.map(({ id }) => ({ id })),
      [answers[0]?.body],
    )
    assert.equal((await pair.a.db.selectFrom('jobs').select('id').execute()).length, 1)
  })

  test('an attachment is not deleted while a message with it is being stored', async () => {
    await using pair = await open()
    const partnerId = await newPartner(pair.a)
    const id = await newComplete(pair.a, partnerId)
    const order: string[] = []
    const held = Promise.withResolvers<void>()
    const sending = inTransaction(pair.a.db, async (tx) => {
      await holdAttachments(tx, [id])
      held.resolve()
      await sleep(200)
      await getSendable({ db: tx, sandbox: undefined, clock: systemClock }, partnerId, id)
      order.push('sent')
    })
    await held.promise
    const deleting = removeAttachment(pair.b.db, partnerId, id).then((row) => order.push(row ? 'deleted' : 'nothing'))
    await Promise.all([sending, deleting])
    assert.deepEqual(order, ['sent', 'deleted'])
    const late = inTransaction(pair.a.db, async (tx) => {
      await holdAttachments(tx, [id])
      await getSendable({ db: tx, sandbox: undefined, clock: systemClock }, partnerId, id)
    })
    await assert.rejects(late, { code: 2003 })
  })

  test('reports that come to many nodes at once move a message on once each, and are told in order', async () => {
    await using pair = await open()
    const chat = await newChat(pair.a)
    for (let round = 0; round < 5; round++) {
      const message = await inTransaction(pair.a.db, (tx) => accept(tx, chat))
      await setCarrierRef(pair.a.db, message.id, message.id)
      await Promise.all(
        sides(pair, 12).map((opened, index) => {
          const type = (['sent', 'delivered', 'read'] as const)[index % 3] ?? 'sent'
          return reportDelivery(appOf(opened), { carrierRef: message.id, type, at: 1_000 + index })
        }),
      )
      const row = await pair.b.db
        .selectFrom('messages')
        .selectAll()
        .where('id', '=', message.id)
        .executeTakeFirstOrThrow()
      assert.equal(row.delivery_status, 'read')
      const events = await pair.b.db
        .selectFrom('events')
        .select('type')
        .where('message_id', '=', message.id)
        .orderBy('id')
        .execute()
      const types = events.map(({ type }) => type.replace('message.', ''))
      assert.equal(new Set(types).size, types.length, types.join())
      assert.deepEqual(
        types,
        ['sent', 'delivered', 'read'].filter((type) => types.includes(type)),
      )
      assert.ok(types.includes('read'))
    }
  })

  test('steps of the pretend network that overtake each other are told in the order of the plan', async () => {
    await using pair = await open()
    const chat = await newChat(pair.a)
    const message = await inTransaction(pair.a.db, (tx) => accept(tx, chat))
    await setCarrierRef(pair.a.db, message.id, message.id)
    const step = { message_id: message.id, code: 4001 as const }
    for (const type of ['delivered', 'failed', 'sent'] as const)
      await carryOut(appOf(pair.a) as unknown as App, { ...step, type })
    const events = await pair.b.db
      .selectFrom('events')
      .select('type')
      .where('message_id', '=', message.id)
      .orderBy('id')
      .execute()
    assert.deepEqual(
      events.map(({ type }) => type),
      ['message.sent', 'message.failed', 'message.delivered'],
    )
  })

  test('a phone answers what was told as delivered, also when its answer overtakes that', async () => {
    await using pair = await open()
    const chat = await newChat(pair.a)
    const line = { id: newId(), partner_id: chat.partner_id, phone_number: LINE, created_at: 1 }
    await insertPhoneNumber(pair.a.db, line)
    const message = await inTransaction(pair.a.db, (tx) => accept(tx, chat))
    await setCarrierRef(pair.a.db, message.id, message.id)
    await carryOut(appOf(pair.a) as unknown as App, { message_id: message.id, type: 'reply' })
    const events = await pair.b.db
      .selectFrom('events')
      .select('type')
      .where('chat_id', '=', chat.id)
      .orderBy('id')
      .execute()
    assert.deepEqual(
      events.map(({ type }) => type),
      ['message.sent', 'message.delivered', 'message.received'],
    )
  })

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

  test('webhooks of a chat go one after the other in their order, however many claim', async () => {
    await using pair = await open()
    const partnerId = await newPartner(pair.a)
    await insertSubscription(pair.a.db, subscription(partnerId))
    const rows = Array.from({ length: 90 }, (_, index) => delivery(partnerId, `chat-${index % 3}`))
    await insertDeliveries(pair.a.db, rows)
    const done: string[] = []
    const under = new Map<string, string>()
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
          assert.equal(under.get(delivery.chat_id ?? ''), undefined, `two at once in ${delivery.chat_id}`)
          under.set(delivery.chat_id ?? '', delivery.id)
        }
        await sleep(Math.random() * 4)
        for (const { delivery } of claimed) {
          done.push(delivery.id)
          under.delete(delivery.chat_id ?? '')
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

const sides = (pair: Pair, count: number): Opened[] =>
  Array.from({ length: count }, (_, index) => (index % 2 ? pair.a : pair.b))

const take = ({ db, skipLocked }: Opened, limit: number) =>
  claim(db, { now: 1_000, realNow: Date.now(), limit, leaseMs: 60_000, node: 'a', skipLocked })

const enqueueSweep = (opened: Opened, id: string, runAt = 1) =>
  enqueue(opened.db, { id, kind: 'retention.sweep', payload: {}, runAt })

function appOf({ db }: Pick<Opened, 'db'>) {
  const signingKey = { accessKeyId: 'satchel', secretAccessKey: 'secret', region: 'local' }
  const urls = { api: 'http://api.test', cdn: 'http://cdn.test' }
  return { db, clock: systemClock, newId, urls, sandbox: undefined, signingKey } satisfies Partial<App>
}

async function newPartner({ db }: Opened): Promise<string> {
  const id = newId()
  await insertPartner(db, { id, name: 'x', created_at: 1 }, newId())
  return id
}

async function newChat(opened: Opened): Promise<Chat> {
  const partnerId = await newPartner(opened)
  const who = { partnerId, phoneNumber: LINE, recipients: ['+14155550100'] }
  const { chat } = await inTransaction(opened.db, (tx) =>
    findOrCreateChat(tx, { newId }, who, { service: 'iMessage', now: 1 }),
  )
  return (await findChat(opened.db, partnerId, chat.id)) ?? assert.fail()
}

const accept = (tx: Opened['db'], chat: Chat) => {
  const app = { ...appOf({ db: tx }), purge: undefined }
  return acceptMessage(tx, app, { chat, resolved: NONE, content: {}, traceId: 't', now: Date.now() })
}

async function newComplete({ db }: Opened, partnerId: string): Promise<string> {
  const id = newId()
  const type = { declared_type: 'image/png', content_type: 'image/png', size_bytes: 1 }
  const bytes = { status: 'complete' as const, source: 'upload' as const, storage_key: id, sha256: 'x' }
  const times = { created_at: 1, upload_expires_at: 2, completed_at: 1 }
  await insertAttachment(db, { id, partner_id: partnerId, filename: 'a.png', ...type, ...bytes, ...times })
  return id
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
