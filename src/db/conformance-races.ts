/** The part of the databases' suite in which many do the same at once: chats, keys, deletions, reports, the pretend network. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { App } from '../app.ts'
import { getSendable } from '../attachments/get.ts'
import { holdAttachments, insertAttachment, removeAttachment } from '../attachments/rows.ts'
import { carryOut } from '../carriers/sandbox/steps.ts'
import { findOrCreateChat } from '../chats/open.ts'
import { systemClock } from '../clock.ts'
import { reportDelivery } from '../messages/deliver.ts'
import { once } from '../messages/idempotency.ts'
import { setCarrierRef } from '../messages/rows.ts'
import { insertPhoneNumber } from '../partners/rows.ts'
import type { Pair } from './conformance.ts'
import { accept, appOf, LINE, newChat, newId, newPartner, sides } from './conformance-rows.ts'
import type { Opened } from './schema.ts'
import { inTransaction } from './transaction.ts'

export function raceConformance(open: () => Promise<Pair>): void {
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
}

async function newComplete({ db }: Opened, partnerId: string): Promise<string> {
  const id = newId()
  const type = { declared_type: 'image/png', content_type: 'image/png', size_bytes: 1 }
  const bytes = { status: 'complete' as const, source: 'upload' as const, storage_key: id, sha256: 'x' }
  const times = { created_at: 1, upload_expires_at: 2, completed_at: 1 }
  await insertAttachment(db, { id, partner_id: partnerId, filename: 'a.png', ...type, ...bytes, ...times })
  return id
}
