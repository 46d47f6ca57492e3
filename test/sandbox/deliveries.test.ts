/** `/sandbox/webhook-deliveries`: what was owed, each request to the letter, and sending one again. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { assertRefused } from '../support/answers.ts'
import { assertSigned, deadPort, openReceiver, subscribe } from '../support/receiver.ts'
import { type Listed, listDeliveries, ok, receive, sandbox } from '../support/sandbox.ts'
import { startServer } from '../support/satchel.ts'
import { createPartner, eventually, lineOf, text } from '../support/scene.ts'
import { assertShape, TIME, UUID } from '../support/shape.ts'

const receiver = await openReceiver()
const server = await startServer({ env: { SATCHEL_EGRESS_ALLOW: '127.0.0.1:*' } })
after(async () => {
  await server[Symbol.asyncDispose]()
  await receiver[Symbol.asyncDispose]()
})
const client = server.client()
const line = lineOf(server)
const PHONE = '+14155550131'
const NOWHERE = '00000000-0000-4000-8000-000000000000'
const good = await subscribe(client, receiver.url('/good?a=b'), ['message.sent', 'message.delivered', 'chat.created'])
const dead = await subscribe(client, `http://127.0.0.1:${await deadPort()}/`, ['message.received'])
const old = await subscribe(client, receiver.url('/old?version=2025-01-01'), ['message.received'])

const { chat } = await client.chats.create({ from: line, to: [PHONE], message: { parts: [text('Grüße')] } })
const back = await receive(server, { from: PHONE, to: line, text: 'Back' })
await eventually(
  () => listDeliveries(server),
  (found) => found.length === 5 && found.every(({ attempts }) => attempts.length > 0),
)

const replay = (id: string, apiKey = server.apiKey) =>
  sandbox(server, `/webhook-deliveries/${id}/replay`, { method: 'POST', apiKey })

test('a delivery shows what was sent, as it was sent, so that its signatures can be checked', async () => {
  const [delivery] = await listDeliveries(server, '?event=message.delivered')
  assert.ok(delivery)
  assertShape(
    { ...delivery, attempts: [] },
    {
      id: UUID,
      event_id: UUID,
      event_type: 'message.delivered',
      message_id: chat.message.id,
      subscription_id: good.id,
      status: 'delivered',
      created_at: TIME,
      next_attempt_at: null,
      last_error: null,
      attempts: [],
    },
  )
  const [attempt] = delivery.attempts
  assert.ok(attempt)
  assert.deepEqual([attempt.status, attempt.error, delivery.attempts.length], [200, null, 1])
  assert.match(attempt.started_at, TIME)
  assert.ok(attempt.latency_ms >= 0)
  const arrived = receiver.deliveries.find(({ event }) => event.event_id === delivery.event_id)
  assert.ok(arrived)
  assert.equal(attempt.request.url, receiver.url('/good?a=b'))
  assert.equal(attempt.request.body, arrived.body)
  const headers = lower(attempt.request.headers)
  for (const [name, value] of Object.entries(headers)) assert.equal(arrived.headers[name], value, name)
  assertSigned({ body: attempt.request.body, headers }, good.signing_secret)
})

test('the body of an older version is shown as it was sent', async () => {
  const delivery = (await listDeliveries(server, '?event=message.received')).find(
    ({ subscription_id }) => subscription_id === old.id,
  )
  const arrived = receiver.at('/old')[0]
  assert.equal(delivery?.attempts[0]?.request.body, arrived?.body)
  assert.match(arrived?.body ?? '', /"webhook_version":"2025-01-01"/)
})

test('what could not be delivered says why and when it is tried again', async () => {
  const [delivery] = await listDeliveries(server, '?status=pending')
  assert.equal(delivery?.subscription_id, dead.id)
  assert.match(delivery?.last_error ?? '', /refused/)
  assert.match(delivery?.next_attempt_at ?? '', TIME)
  assert.deepEqual([delivery?.attempts[0]?.status, delivery?.attempts[0]?.error], [null, delivery?.last_error])
})

test('deliveries can be chosen by event, message and status, together too', async () => {
  const types = async (query: string) => (await listDeliveries(server, query)).map(({ event_type }) => event_type)
  assert.deepEqual(await types(`?message=${chat.message.id}`), ['message.delivered', 'message.sent'])
  assert.deepEqual(await types(`?message=${chat.message.id.toUpperCase()}`), ['message.delivered', 'message.sent'])
  assert.deepEqual(await types(`?message=${back.message_id}&status=delivered`), ['message.received'])
  assert.deepEqual(await types('?event=message.sent'), ['message.sent'])
  assert.deepEqual(await types('?status=failed'), [])
  assert.deepEqual(await types(`?message=${NOWHERE}`), [])
  const [one] = await listDeliveries(server, '?event=message.received')
  assert.equal((await listDeliveries(server, `?event=${one?.event_id}`)).length, 2)
  for (const query of ['?status=lost', '?limit=0', '?limit=101', '?limit=x', '?cursor=x']) {
    await assertRefused(sandbox(server, `/webhook-deliveries${query}`), { status: 400, code: 1005 })
  }
})

test('pages show each delivery once, newest first, however small they are', async () => {
  const all = await listDeliveries(server)
  assert.deepEqual(
    all.map(({ id }) => id),
    all
      .map(({ id }) => id)
      .sort()
      .reverse(),
  )
  type Page = { deliveries: Listed[]; next_cursor: string | null }
  const paged: string[] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const query = `?limit=2${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`
    const page: Page = await ok(sandbox(server, `/webhook-deliveries${query}`))
    assert.ok(page.deliveries.length > 0 && page.deliveries.length <= 2)
    paged.push(...page.deliveries.map(({ id }) => id))
    cursor = page.next_cursor
  }
  assert.deepEqual(
    paged,
    all.map(({ id }) => id),
  )
})

test('a replay is a delivery of its own, of the same event, signed anew', async () => {
  const [delivery] = await listDeliveries(server, '?event=message.sent')
  assert.ok(delivery)
  const { delivery_id } = await ok<{ delivery_id: string }>(replay(delivery.id), 202)
  assert.notEqual(delivery_id, delivery.id)
  const arrived = await eventually(
    async () => receiver.deliveries.filter(({ event }) => event.event_id === delivery.event_id),
    (found) => found.length === 2,
  )
  assert.equal(arrived[1]?.body, arrived[0]?.body)
  for (const one of arrived) assertSigned(one, good.signing_secret)
  const listed = await eventually(
    () => listDeliveries(server, `?event=${delivery.event_id}`),
    (found) => found.every(({ status }) => status === 'delivered'),
  )
  assert.deepEqual(
    listed.map(({ id }) => id),
    [delivery_id, delivery.id],
  )
})

test('what is not there, or is foreign, cannot be replayed or seen', async () => {
  const other = await createPartner(server, '+12025550182')
  const [delivery] = await listDeliveries(server)
  assert.ok(delivery)
  await assertRefused(replay(delivery.id, other.apiKey), { status: 404, code: 2001 })
  await assertRefused(replay(NOWHERE), { status: 404, code: 2001 })
  await assertRefused(replay('x'), { status: 400, code: 1005 })
  const { deliveries } = await ok<{ deliveries: Listed[] }>(
    sandbox(server, '/webhook-deliveries', { apiKey: other.apiKey }),
  )
  assert.deepEqual(deliveries, [])
})

test('a delivery to a subscription that is off or gone cannot be replayed', async () => {
  const { id } = await subscribe(client, receiver.url('/short-lived'), ['message.received'])
  const { message_id } = await receive(server, { from: PHONE, to: line, text: 'Again?' })
  const delivery = await eventually(
    async () =>
      (await listDeliveries(server, `?message=${message_id}`)).find(({ subscription_id }) => subscription_id === id),
    (found) => found?.status === 'delivered',
  )
  await client.webhookSubscriptions.update(id, { is_active: false })
  await assertRefused(replay(delivery?.id ?? ''), { status: 409, code: 2015 })
  await client.webhookSubscriptions.delete(id)
  await assertRefused(replay(delivery?.id ?? ''), { status: 409, code: 2015 })
})

const lower = (headers: Record<string, string>) =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
