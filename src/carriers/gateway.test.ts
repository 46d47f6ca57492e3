import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { accept, answerWith, openGatewayDouble, report, SECRET } from '../../test/gateway/double.ts'
import type { App } from '../app.ts'
import { systemClock } from '../clock.ts'
import { createApi } from '../http/api.ts'
import { parseEgressAllow } from '../remote/address.ts'
import { type Carrier, CarrierRefused, type Outbound } from './carrier.ts'
import { carrierConformance } from './conformance.ts'
import { createGatewayRemote, openGateway } from './gateway.ts'
import { gatewayRoutes } from './gateway-routes.ts'

const gatewayAt = (url: string) => ({
  url,
  secret: SECRET,
  remote: createGatewayRemote({ url, allow: parseEgressAllow(''), userAgent: 'Satchel/test' }),
})

carrierConformance('the gateway as a carrier', async (base) => {
  const double = await openGatewayDouble()
  const gateway = gatewayAt(double.url)
  const app: App = { ...base, carrier: openGateway({ ...gateway, clock: base.clock }) }
  const api = await createApi(app, { routes: [], apart: {}, schemas: [], version: 'test' })
  await api.register(gatewayRoutes(app, gateway))
  const url = await api.listen({ host: '127.0.0.1', port: 0 })
  return {
    carrier: app.carrier,
    taken: async () => [...double.messages.keys()],
    async report({ carrierRef, at, ...event }) {
      const answer = await report(url, { ...event, message_id: carrierRef, at: new Date(at).toISOString() })
      assert.equal(answer.status, 202, await answer.text())
    },
    async close() {
      await api.close()
      await gateway.remote[Symbol.asyncDispose]()
      await double[Symbol.asyncDispose]()
    },
  }
})

const double = await openGatewayDouble()
const gateway = gatewayAt(double.url)
const carrier = openGateway({ ...gateway, clock: systemClock })
after(async () => {
  await gateway.remote[Symbol.asyncDispose]()
  await double[Symbol.asyncDispose]()
})

const MESSAGE: Outbound = {
  id: '0190b7c8-0000-7000-8000-000000000001',
  partnerId: 'nobody else may see this',
  from: '+12025550100',
  to: ['+14155550101', 'someone@example.com'],
  service: 'iMessage',
  parts: [
    { type: 'text', text: 'Grüße 👋' },
    { type: 'link', url: 'https://example.com/' },
    { type: 'media', url: 'http://cdn/a.jpg', content_type: 'image/jpeg', filename: 'a.jpg', size_bytes: 3 },
  ],
}
const send = (o: { carrier?: Carrier; signal?: AbortSignal } = {}) =>
  (o.carrier ?? carrier).send(MESSAGE, o.signal ?? AbortSignal.timeout(10_000))

test('a message is POSTed whole, with its id in both places, and verifies with the reference library', async () => {
  double.answer = accept
  assert.deepEqual(await send(), { carrierRef: MESSAGE.id })
  const { headers, body } = double.posts.at(-1) ?? assert.fail('nothing came')
  const { partnerId: _, ...sent } = MESSAGE
  assert.deepEqual(new Webhook(SECRET).verify(body, headers), sent)
  assert.deepEqual(
    ['webhook-id', 'idempotency-key', 'content-type', 'user-agent'].map((name) => headers[name]),
    [MESSAGE.id, MESSAGE.id, 'application/json', 'Satchel/test'],
  )
})

test('each try has its own timestamp', async () => {
  double.answer = accept
  let now = Date.now()
  const held = openGateway({ ...gateway, clock: { now: () => now } })
  await send({ carrier: held })
  now += 60_000
  await send({ carrier: held })
  const [first, second] = double.posts.slice(-2).map(({ headers }) => Number(headers['webhook-timestamp']))
  assert.equal((second ?? 0) - (first ?? 0), 60)
})

for (const status of [200, 201, 202, 204, 299]) {
  test(`${status} means that the message is taken`, async () => {
    double.answer = answerWith(status)
    assert.deepEqual(await send(), { carrierRef: MESSAGE.id })
  })
}

for (const status of [301, 302, 307, 308, 401, 408, 429, 500, 502, 503, 504]) {
  test(`${status} is worth another try, and no redirect is followed`, async () => {
    double.answer = answerWith(status)
    const before = double.posts.length
    await assert.rejects(send(), (error: Error) => {
      assert.ok(!(error instanceof CarrierRefused))
      assert.equal(error.message, `the gateway answered ${status}`)
      return true
    })
    assert.equal(double.posts.length, before + 1)
  })
}

for (const [status, code] of [
  [400, 4001],
  [404, 4001],
  [410, 4001],
  [422, 4005],
] as const) {
  test(`${status} refuses the message for good, with ${code} and none of the gateway's words`, async () => {
    double.answer = answerWith(status)
    await assert.rejects(send(), (error: Error) => {
      assert.ok(error instanceof CarrierRefused)
      assert.equal(error.code, code)
      assert.doesNotMatch(error.message, /explanation|\d/)
      return true
    })
  })
}

test('an abort ends a try that hangs at once, with its reason', async () => {
  double.answer = () => {}
  const stop = new AbortController()
  const sending = send({ signal: stop.signal })
  const started = performance.now()
  setTimeout(() => stop.abort(new Error('enough')), 50)
  await assert.rejects(sending, /enough/)
  assert.ok(performance.now() - started < 10_000)
})

test('the gateway may be private and plain, but nothing else may, not even another port of its host', async () => {
  const other = await openGatewayDouble()
  await assert.rejects(
    gateway.remote.post(other.url, { headers: {}, body: Buffer.from('{}'), timeoutMs: 2_000, maxResponseBytes: 1 }),
    /may not be called/,
  )
  assert.equal(other.posts.length, 0)
  await other[Symbol.asyncDispose]()
})
