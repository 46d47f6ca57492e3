/** Contract 5.1, 5.2 and 5.4: webhook subscriptions, which events there are, and which version a URL chooses. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type LinqAPIV3 from '@linqapp/sdk'
import { assertRefused, assertSdkRefused } from '../support/answers.ts'
import { subscribe } from '../support/receiver.ts'
import { startServer } from '../support/satchel.ts'
import { createPartner, lineOf, postJson } from '../support/scene.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const line = lineOf(server)
const other = await createPartner(server, '+12025550177')

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
const NOWHERE = '00000000-0000-4000-8000-000000000000'
const PATH = '/v3/webhook-subscriptions'

let made = 0
const freshUrl = () => `https://hooks.example.com/${++made}`
const create = (body: unknown) => postJson(server, PATH, body)
const put = (id: string, body: unknown) => postJson(server, `${PATH}/${id}`, body, { method: 'PUT' })
const bodyWith = (more: object) => ({ target_url: freshUrl(), subscribed_events: ['message.sent'], ...more })

const EVENTS = [
  'message.sent',
  'message.received',
  'message.read',
  'message.delivered',
  'message.failed',
  'message.edited',
  'reaction.added',
  'reaction.removed',
  'participant.added',
  'participant.removed',
  'chat.created',
  'chat.group_name_updated',
  'chat.group_icon_updated',
  'chat.group_name_update_failed',
  'chat.group_icon_update_failed',
  'chat.typing_indicator.started',
  'chat.typing_indicator.stopped',
  'phone_number.status_updated',
  'call.initiated',
  'call.ringing',
  'call.answered',
  'call.ended',
  'call.failed',
  'call.declined',
  'call.no_answer',
  'location.sharing.started',
  'location.sharing.stopped',
]

test('creating answers the whole subscription in the order of the contract, with its secret', async () => {
  const target_url = 'https://webhooks.example.com/linq/events?version=2026-02-03'
  const subscribed_events = ['message.received', 'message.sent', 'message.delivered', 'message.failed']
  const answer = await create({ target_url, subscribed_events })
  const text = await answer.text()
  const body = JSON.parse(text) as LinqAPIV3.WebhookSubscriptionCreateResponse
  assert.equal(answer.status, 201)
  assert.match(body.id, UUID)
  assert.match(body.created_at, TIME)
  assert.match(body.signing_secret, /^whsec_[A-Za-z0-9+/]{43}=$/)
  assert.equal(Buffer.from(body.signing_secret.slice(6), 'base64').length, 32)
  const { id, signing_secret, created_at } = body
  const rest = { subscribed_events, phone_numbers: null, is_active: true, created_at, updated_at: created_at }
  assert.equal(text, JSON.stringify({ id, target_url, signing_secret, ...rest }))
})

test('the secret is shown at no later time, and is another for each subscription', async () => {
  const first = await subscribe(client, freshUrl(), ['message.sent'])
  const second = await subscribe(client, freshUrl(), ['message.sent'])
  assert.notEqual(first.signing_secret, second.signing_secret)
  const shown = await Promise.all([
    server.call(PATH),
    server.call(`${PATH}/${first.id}`),
    put(first.id, { is_active: true }),
  ])
  for (const answer of shown) assert.doesNotMatch(await answer.text(), /whsec_|secret/)
})

test('a subscription can be retrieved and is in the list, whole, whether active or not', async () => {
  const { signing_secret: _, ...subscription } = await subscribe(client, freshUrl(), ['message.read'])
  assert.deepEqual(await client.webhookSubscriptions.retrieve(subscription.id), subscription)
  const upper = await client.webhookSubscriptions.retrieve(subscription.id.toUpperCase())
  assert.equal(upper.id, subscription.id)
  const listed = async () => {
    const { subscriptions } = await client.webhookSubscriptions.list()
    return subscriptions.find(({ id }) => id === subscription.id)
  }
  assert.deepEqual(await listed(), subscription)
  await client.webhookSubscriptions.update(subscription.id, { is_active: false })
  assert.equal((await listed())?.is_active, false)
})

test('an update changes what it names and nothing else', async () => {
  const { signing_secret: _, ...before } = await subscribe(client, freshUrl(), ['message.sent'], {
    phone_numbers: [line],
  })
  const { updated_at: __, ...kept } = before
  const unchanged = await client.webhookSubscriptions.update(before.id, {})
  assert.deepEqual({ ...unchanged, updated_at: '' }, { ...kept, updated_at: '' })
  const target_url = freshUrl()
  const changes = [
    { target_url },
    { subscribed_events: ['message.read', 'chat.created'] as LinqAPIV3.WebhookEventType[] },
    { is_active: false },
    { phone_numbers: null },
  ]
  let expected: object = kept
  for (const change of changes) {
    const { updated_at, ...after } = await client.webhookSubscriptions.update(before.id, change)
    expected = { ...expected, ...change }
    assert.deepEqual(after, expected)
    assert.ok(updated_at >= before.updated_at)
  }
})

test('[] for phone_numbers means null, at creation and in an update', async () => {
  const subscription = await subscribe(client, freshUrl(), ['message.sent'], { phone_numbers: [] })
  assert.equal(subscription.phone_numbers, null)
  const chosen = await client.webhookSubscriptions.update(subscription.id, { phone_numbers: [line] })
  assert.deepEqual(chosen.phone_numbers, [line])
  const cleared = await client.webhookSubscriptions.update(subscription.id, { phone_numbers: [] })
  assert.equal(cleared.phone_numbers, null)
})

test('a deleted subscription is gone', async () => {
  const { id, target_url } = await subscribe(client, freshUrl(), ['message.sent'])
  const answer = await server.call(`${PATH}/${id}`, { method: 'DELETE' })
  assert.deepEqual([answer.status, await answer.text()], [204, ''])
  await assertSdkRefused(client.webhookSubscriptions.retrieve(id), { status: 404, code: 2010 })
  await assertSdkRefused(client.webhookSubscriptions.delete(id), { status: 404, code: 2010 })
  await assertSdkRefused(client.webhookSubscriptions.update(id, {}), { status: 404, code: 2010 })
  const { subscriptions } = await client.webhookSubscriptions.list()
  assert.ok(!subscriptions.some((subscription) => subscription.id === id))
  await subscribe(client, target_url, ['message.sent'])
})

test('the same target_url again is a conflict that waiting does not cure; a query makes it another', async () => {
  const url = freshUrl()
  const { id } = await subscribe(client, url, ['message.sent'])
  const again = await create({ target_url: url, subscribed_events: ['message.read'] })
  assert.equal(again.headers.get('x-should-retry'), 'false')
  await assertRefused(again, { status: 409, code: 2015 })
  const second = await subscribe(client, `${url}?for=2`, ['message.sent'])
  const moved = await put(second.id, { target_url: url })
  assert.equal(moved.headers.get('x-should-retry'), 'false')
  await assertRefused(moved, { status: 409, code: 2015 })
  await client.webhookSubscriptions.update(id, { target_url: url })
  await subscribe(other.client, url, ['message.sent'])
})

test('foreign subscriptions cannot be told from unknown ones', async () => {
  const { id } = await subscribe(other.client, freshUrl(), ['message.sent'])
  for (const target of [id, NOWHERE]) {
    const calls = [
      server.call(`${PATH}/${target}`),
      put(target, { is_active: false }),
      server.call(`${PATH}/${target}`, { method: 'DELETE' }),
    ]
    for (const call of calls) await assertRefused(call, { status: 404, code: 2010 })
  }
  const { subscriptions } = await client.webhookSubscriptions.list()
  assert.ok(!subscriptions.some((subscription) => subscription.id === id))
  assert.equal((await other.client.webhookSubscriptions.retrieve(id)).is_active, true)
})

test('an id that is none is refused', async () => {
  await assertRefused(server.call(`${PATH}/not-an-id`), { status: 400, code: 1005 })
})

for (const [what, body, code] of [
  ['no target_url', { subscribed_events: ['message.sent'] }, 1001],
  ['no subscribed_events', { target_url: 'https://hooks.example.com/x' }, 1001],
  ['an empty target_url', bodyWith({ target_url: '' }), 1005],
  ['a target_url that is no text', bodyWith({ target_url: 5 }), 1005],
  ['a target_url that is no URL', bodyWith({ target_url: 'hooks.example.com' }), 1005],
  [
    'a target_url over 2,048 characters',
    bodyWith({ target_url: `https://hooks.example.com/${'x'.repeat(2048)}` }),
    1005,
  ],
  ['a target_url with a password', bodyWith({ target_url: 'https://me:secret@hooks.example.com/' }), 1005],
  ['a target_url that is plain http', bodyWith({ target_url: 'http://hooks.example.com/' }), 1005],
  ['a target_url of another scheme', bodyWith({ target_url: 'ftp://hooks.example.com/' }), 1005],
  ['an unknown event', bodyWith({ subscribed_events: ['message.sent', 'message.exploded'] }), 1005],
  ['events that are no list', bodyWith({ subscribed_events: 'message.sent' }), 1005],
  ['an event that is no text', bodyWith({ subscribed_events: [7] }), 1005],
  ['a phone number that is not E.164', bodyWith({ phone_numbers: ['555-0100'] }), 1002],
  ['an unknown version', bodyWith({ target_url: 'https://hooks.example.com/?version=2024-01-01' }), 1005],
  ['an empty version', bodyWith({ target_url: 'https://hooks.example.com/?version=' }), 1005],
] as const)
  test(`${what} is refused with ${code}`, async () => {
    await assertRefused(create(body), { status: 400, code })
  })

test('an empty list of events is refused', async () => {
  const answer = await create(bodyWith({ subscribed_events: [] }))
  assert.equal(answer.status, 400)
})

test('a phone number of another partner, or of nobody, is refused with 2006', async () => {
  for (const number of [other.phoneNumber, '+12025550999']) {
    await assertRefused(create(bodyWith({ phone_numbers: [line, number] })), { status: 403, code: 2006 })
  }
})

for (const host of [
  'localhost',
  'LOCALHOST',
  'localhost.',
  'api.localhost',
  'printer.local',
  'metadata.google.internal',
  '127.0.0.1',
  '127.1',
  '2130706433',
  '0x7f000001',
  '0177.0.0.1',
  '10.0.0.1',
  '172.16.0.1',
  '192.168.1.1',
  '169.254.169.254',
  '100.64.0.1',
  '0.0.0.0',
  '[::1]',
  '[::]',
  '[fe80::1]',
  '[fd00::1]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
])
  test(`a target on https://${host}/ is refused`, async () => {
    await assertRefused(create(bodyWith({ target_url: `https://${host}/hook` })), { status: 400, code: 1005 })
    const { id } = await subscribe(client, freshUrl(), ['message.sent'])
    await assertRefused(put(id, { target_url: `https://${host}/hook` }), { status: 400, code: 1005 })
    await client.webhookSubscriptions.delete(id)
  })

test('an address that is public may be a literal', async () => {
  await subscribe(client, 'https://8.8.8.8/hook', ['message.sent'])
  await subscribe(client, 'https://[2606:4700:4700::1111]/hook', ['message.sent'])
})

test('what an update refuses leaves the subscription as it was', async () => {
  const { signing_secret: _, ...subscription } = await subscribe(client, freshUrl(), ['message.sent'])
  const bad: [object, number, number][] = [
    [{ target_url: 'http://hooks.example.com/' }, 400, 1005],
    [{ subscribed_events: ['message.exploded'] }, 400, 1005],
    [{ is_active: 'yes' }, 400, 1005],
    [{ phone_numbers: ['555'] }, 400, 1002],
    [{ phone_numbers: ['+12025550999'], is_active: false }, 403, 2006],
  ]
  for (const [change, status, code] of bad) await assertRefused(put(subscription.id, change), { status, code })
  assert.deepEqual(await client.webhookSubscriptions.retrieve(subscription.id), subscription)
})

test('the events of an older SDK are taken without a word', async () => {
  const answer = await create(bodyWith({ subscribed_events: ['message.opt_out', 'message.opt_in'] }))
  assert.equal(answer.status, 201)
})

test('unknown fields are ignored', async () => {
  const answer = await create(bodyWith({ colour: 'red', signing_secret: 'whsec_AAAA' }))
  const body = (await answer.json()) as Record<string, string>
  assert.equal(answer.status, 201)
  assert.equal('colour' in body, false)
  assert.notEqual(body.signing_secret, 'whsec_AAAA')
})

test('webhook-events lists exactly the 27, and the page about them', async () => {
  const answer = await server.call('/v3/webhook-events')
  assert.equal(answer.status, 200)
  const doc_url = 'https://docs.linqapp.com/guides/webhooks/events'
  assert.equal(await answer.text(), JSON.stringify({ events: EVENTS, doc_url }))
  assert.equal(EVENTS.length, 27)
  assert.deepEqual((await client.webhookEvents.list()).events, EVENTS)
})

test('all 27 events may be subscribed to', async () => {
  const { subscribed_events } = await subscribe(client, freshUrl(), EVENTS as LinqAPIV3.WebhookEventType[])
  assert.deepEqual(subscribed_events, EVENTS)
})

test('a listed host and port may be plain http, and nothing beside it', async () => {
  await using open = await startServer({ env: { SATCHEL_EGRESS_ALLOW: '127.0.0.1:8123,relay.test:9000,[::1]:8124' } })
  const ask = (target_url: string) => postJson(open, PATH, { target_url, subscribed_events: ['message.sent'] })
  for (const url of [
    'http://127.0.0.1:8123/hook',
    'https://127.0.0.1:8123/hook',
    'http://relay.test:9000/',
    'http://[::1]:8124/',
  ]) {
    const answer = await ask(url)
    assert.equal(answer.status, 201, `${url}: ${await answer.text()}`)
  }
  for (const url of [
    'http://127.0.0.1:8124/hook',
    'http://127.0.0.2:8123/hook',
    'http://localhost:8123/hook',
    'http://relay.test/',
    'https://192.168.0.1/',
  ]) {
    await assertRefused(ask(url), { status: 400, code: 1005 })
  }
})
