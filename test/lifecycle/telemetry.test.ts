/** Traces to a collector: their shape, what belongs together, and that a bad collector costs nothing. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Server as HttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { jpeg } from '../fixtures/media/files.ts'
import { startServer } from '../support/satchel.ts'

type Span = {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  kind: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes: { key: string; value: { stringValue?: string; intValue?: string } }[]
  status: { code?: number }
}

const open: HttpServer[] = []
after(() => {
  for (const server of open) server.closeAllConnections()
  for (const server of open) server.close()
})

async function listen(handler: Parameters<typeof createServer>[1]): Promise<string> {
  const server = createServer(handler as never)
  open.push(server)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function openCollector() {
  const bodies: string[] = []
  const url = await listen(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    assert.equal(
      `${request.method} ${request.url} ${request.headers['content-type']}`,
      'POST /v1/traces application/json',
    )
    bodies.push(body)
    response.setHeader('content-type', 'application/json').end('{}')
  })
  const parsed = () => bodies.map((body) => JSON.parse(body).resourceSpans[0])
  return {
    url,
    bodies,
    resource: () => parsed()[0].resource,
    spans: (): Span[] => parsed().flatMap((resourceSpans) => resourceSpans.scopeSpans[0].spans),
  }
}

const valueOfKey = (span: Span, key: string) => {
  const value = span.attributes.find((attribute) => attribute.key === key)?.value
  return value?.stringValue ?? (value?.intValue === undefined ? undefined : Number(value.intValue))
}

test('a send, its job and its webhooks are one trace, whose id is X-Trace-ID', async () => {
  const collector = await openCollector()
  const hook = await listen((_, response) => response.end())
  await using server = await startServer({
    env: { SATCHEL_OTLP_URL: collector.url, SATCHEL_EGRESS_ALLOW: '127.0.0.1:*' },
  })
  const client = server.client()
  await client.webhookSubscriptions.create({
    target_url: `${hook}/secret-path?token=hidden`,
    subscribed_events: ['message.sent'],
  })
  const file = jpeg()
  const slot = await client.attachments.create({
    filename: 'private.jpg',
    content_type: 'image/jpeg',
    size_bytes: file.length,
  })
  await fetch(slot.upload_url, { method: 'PUT', headers: slot.required_headers, body: file })
  const { response } = await client.chats
    .create({
      from: server.phoneNumbers[0] ?? '',
      to: ['+14155550100'],
      message: { parts: [{ type: 'media', attachment_id: slot.attachment_id }] },
    })
    .withResponse()
  assert.equal((await fetch(`${server.api}/v3/chats/nothing`, { headers: { authorization: 'Bearer x' } })).status, 401)
  await sleep(1_500)
  await server.stop()

  const spans = collector.spans()
  const traceId = response.headers.get('x-trace-id')
  const trace = spans.filter((span) => span.traceId === traceId)
  assert.deepEqual(trace.map(({ name }) => name).sort(), [
    'POST',
    'POST /api/partner/v3/chats',
    'job message.send',
    'webhook message.sent',
  ])
  const byName = new Map(trace.map((span) => [span.name, span]))
  const request = byName.get('POST /api/partner/v3/chats')
  const call = byName.get('POST')
  assert.ok(request && call)
  assert.equal(call.parentSpanId, byName.get('webhook message.sent')?.spanId)
  assert.equal(request.parentSpanId, undefined)
  assert.deepEqual([request.kind, call.kind], [2, 3])
  assert.equal(valueOfKey(request, 'http.response.status_code'), 201)
  assert.equal(valueOfKey(call, 'server.address'), '127.0.0.1')
  assert.equal(valueOfKey(call, 'http.response.status_code'), 200)
  for (const span of spans) {
    assert.match(`${span.traceId} ${span.spanId}`, /^[0-9a-f]{32} [0-9a-f]{16}$/)
    const [start, end] = [span.startTimeUnixNano, span.endTimeUnixNano].map((text) => Number(text) / 1e6)
    assert.ok(start && end && end >= start && Math.abs(Date.now() - start) < 60_000)
  }
  assert.ok(spans.some((span) => span.name === 'PUT /uploads/:id'))
  const all = collector.bodies.join('')
  for (const secret of [slot.attachment_id, 'private.jpg', 'secret-path', 'hidden', '+1415555', server.apiKey]) {
    assert.ok(!all.includes(secret), secret)
  }
  assert.deepEqual(collector.resource().attributes[0], { key: 'service.name', value: { stringValue: 'satchel' } })
})

test('a collector that is away, refuses or never answers neither slows nor fails anything', async () => {
  const refusing = await listen((_, response) => response.writeHead(503).end())
  const silent = await listen(() => {})
  for (const url of ['http://127.0.0.1:1', refusing, silent]) {
    await using server = await startServer({ env: { SATCHEL_OTLP_URL: url } })
    for (let n = 0; n < 600; n += 20) {
      const answers = await Promise.all(Array.from({ length: 20 }, () => server.call('/v3/phone_numbers')))
      assert.ok(answers.every((answer) => answer.status === 200))
    }
    const began = performance.now()
    assert.equal(await server.stop(), 0)
    assert.ok(performance.now() - began < 6_000, `${url} held the end up`)
    if (url !== silent) assert.match(server.log(), /traces are being dropped/)
  }
})

test('without the variable nothing is sent and a wrong one is told', async () => {
  await assert.rejects(
    startServer({ env: { SATCHEL_OTLP_URL: 'collector:4318' } }),
    /SATCHEL_OTLP_URL: .* is not an http/,
  )
})
