/** A receiver that is down for long, in the sandbox's time; and a server that is killed while it delivers. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { assertSigned, deadPort, openReceiver, subscribe } from '../support/receiver.ts'
import { advance, type Listed, listDeliveries, ok, receive, sandbox } from '../support/sandbox.ts'
import { type Server, startServer } from '../support/satchel.ts'
import { eventually, lineOf, text } from '../support/scene.ts'

const ALLOW = { SATCHEL_EGRESS_ALLOW: '127.0.0.0/8' }

async function allDeliveries(server: Server): Promise<Listed[]> {
  const all: Listed[] = []
  for (let cursor = ''; ; ) {
    type Page = { deliveries: Listed[]; next_cursor: string | null }
    const page = await ok<Page>(sandbox(server, `/webhook-deliveries?limit=100${cursor}`))
    all.push(...page.deliveries)
    if (page.next_cursor === null) return all
    cursor = `&cursor=${encodeURIComponent(page.next_cursor)}`
  }
}

test('what happened while a receiver was down for 20 minutes arrives, signed anew at each try', async () => {
  await using server = await startServer({ env: ALLOW })
  const port = await deadPort()
  const { signing_secret } = await subscribe(server.client(), `http://127.0.0.1:${port}/`, [
    'message.received',
    'message.sent',
    'message.delivered',
    'chat.created',
  ])
  const line = lineOf(server)
  const messages: string[] = []
  for (let round = 0; round < 3; round++) {
    for (const from of ['+14155550161', '+14155550162', '+14155550163', '+14155550164']) {
      messages.push((await receive(server, { from, to: line, text: `${round}` })).message_id)
      const { chat } = await server
        .client()
        .chats.create({ from: line, to: [from], message: { parts: [text(`${round}`)] } })
      messages.push(chat.message.id)
    }
    for (let step = 0; step < 40; step++) {
      await advance(server, 10)
      await sleep(60)
    }
  }
  const owed = await eventually(
    () => allDeliveries(server),
    (found) => found.length === 12 * 3 + 4,
  )
  assert.ok(owed.every(({ status }) => status === 'pending'))
  assert.ok(owed.some(({ attempts }) => attempts.length >= 2))

  await using receiver = await openReceiver({ port })
  for (let step = 0; step < 40; step++) {
    await advance(server, 30)
    await sleep(100)
    if ((await allDeliveries(server)).every(({ status }) => status !== 'pending')) break
  }
  const settled = await allDeliveries(server)
  assert.deepEqual(
    settled.filter(({ status }) => status !== 'delivered').map(({ last_error }) => last_error),
    [],
  )
  assert.equal(new Set(settled.map(({ event_id }) => event_id)).size, settled.length)
  assert.deepEqual(
    receiver.deliveries.map(({ event }) => event.event_id).sort(),
    settled.map(({ event_id }) => event_id).sort(),
    'each once',
  )
  assert.ok(messages.every((id) => receiver.deliveries.some(({ event }) => event.data.id === id)))
  for (const delivery of receiver.deliveries) {
    assertSigned(delivery, signing_secret)
    const stamp = Number(delivery.headers['webhook-timestamp'])
    assert.ok(Math.abs(delivery.at / 1000 - stamp) < 3, 'receivers go by real time, so signatures do')
  }
  for (const { attempts, event_id } of settled) {
    assert.ok(attempts.length <= 11)
    for (const { request } of attempts) {
      assert.equal(request.headers['webhook-id'], event_id)
      assertSigned({ body: request.body, headers: lower(request.headers) }, signing_secret)
    }
  }
})

test('a receiver that never comes back gets eleven tries over about 25 minutes, and later events go on', async () => {
  await using server = await startServer({ env: ALLOW })
  const port = await deadPort()
  const { id } = await subscribe(server.client(), `http://127.0.0.1:${port}/`, ['message.received'])
  const { message_id } = await receive(server, { from: '+14155550161', to: lineOf(server), text: 'Lost' })
  const given = async () => (await listDeliveries(server, `?message=${message_id}`))[0]
  for (let minutes = 0; minutes < 60 && (await given())?.status !== 'failed'; minutes += 0.5) {
    await advance(server, 30)
    await sleep(120)
  }
  const delivery = await given()
  assert.ok(delivery)
  assert.deepEqual([delivery.status, delivery.attempts.length], ['failed', 11])
  const times = delivery.attempts.map(({ started_at }) => Date.parse(started_at))
  const minutes = (Number(times.at(-1)) - Number(times[0])) / 60_000
  assert.ok(minutes > 20 && minutes < 45, `${minutes} minutes`)
  assert.equal((await server.client().webhookSubscriptions.retrieve(id)).is_active, true)

  await using receiver = await openReceiver({ port })
  const next = await receive(server, { from: '+14155550161', to: lineOf(server), text: 'After' })
  for (let step = 0; step < 20 && receiver.deliveries.length === 0; step++) {
    await advance(server, 30)
    await sleep(120)
  }
  assert.deepEqual(
    receiver.deliveries.map(({ event }) => event.data.id),
    [next.message_id],
  )
})

test('a server killed ten times while it delivers loses nothing, and repeats only under the same id', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'satchel-killed-'))
  await using receiver = await openReceiver()
  receiver.answer = (response) => void setTimeout(() => response.writeHead(200).end(), 40 + Math.random() * 80)
  try {
    const accepted: string[] = []
    let secret = ''
    for (let round = 0; round < 10; round++) {
      const server = await startServer({ dataDir, env: ALLOW })
      const line = lineOf(server)
      if (round === 0) {
        const events = ['message.received', 'message.sent', 'message.delivered'] as const
        secret = (await subscribe(server.client(), receiver.url('/'), [...events])).signing_secret
      }
      const before = { delivered: receiver.deliveries.length, accepted: accepted.length }
      const writing = (async () => {
        for (let at = 0; ; at++) {
          const from = `+1415555${4000 + (at % 7)}`
          const message = { parts: [text(`${round}.${at}`)] }
          accepted.push((await receive(server, { from, to: line, text: `${round}.${at}` })).message_id)
          accepted.push((await server.client().chats.create({ from: line, to: [from], message })).chat.message.id)
        }
      })().catch(() => {})
      await eventually(
        async () => [receiver.deliveries.length - before.delivered, accepted.length - before.accepted],
        ([delivered = 0, accepted = 0]) => delivered >= 5 && accepted >= 8,
      )
      await sleep(round * 15)
      await server.kill()
      await writing
    }

    await using server = await startServer({ dataDir, env: ALLOW })
    const settled = await eventually(
      () => allDeliveries(server),
      (found) =>
        found.every(({ status }) => status === 'delivered') &&
        accepted.every((id) =>
          found.some(({ message_id, event_type }) => message_id === id && /received|delivered/.test(event_type)),
        ),
      90_000,
    )
    const idsOf = new Map<string, Set<string>>()
    for (const { event, ...delivery } of receiver.deliveries) {
      assertSigned(delivery, secret)
      const key = `${event.event_type} ${event.data.id}`
      idsOf.set(key, (idsOf.get(key) ?? new Set()).add(event.event_id))
    }
    for (const [key, ids] of idsOf) assert.equal(ids.size, 1, key)
    const wanted = new Set(settled.map(({ event_id }) => event_id))
    const got = new Set(receiver.deliveries.map(({ event }) => event.event_id))
    assert.deepEqual(
      [...wanted].filter((id) => !got.has(id)),
      [],
      'every event arrived',
    )
    assert.equal(wanted.size, settled.length)
    const repeated = receiver.deliveries.length - got.size
    console.log(`  ${accepted.length} messages, ${got.size} events, ${repeated} delivered twice over ten kills`)
    const { messages } = await server
      .client()
      .chats.messages.list(chatOf(receiver.deliveries))
      .then((page) => page)
    assert.ok(messages.every(({ delivery_status }) => ['delivered', 'received'].includes(delivery_status)))
  } finally {
    await rm(dataDir, { recursive: true, force: true })
  }
})

const chatOf = (deliveries: { event: { data: { chat: { id: string } } } }[]) => deliveries[0]?.event.data.chat.id ?? ''
const lower = (headers: Record<string, string>) =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
