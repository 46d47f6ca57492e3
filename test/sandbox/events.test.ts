/** `GET /sandbox/events`: everything that happens to a partner, and going on where one left off. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { openReceiver, subscribe, type WebhookEvent } from '../support/receiver.ts'
import { advance, receive, sandbox } from '../support/sandbox.ts'
import { startServer } from '../support/satchel.ts'
import { createPartner, eventually, lineOf, text } from '../support/scene.ts'

const receiver = await openReceiver()
const server = await startServer({ env: { SATCHEL_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` } })
after(async () => {
  await server[Symbol.asyncDispose]()
  await receiver[Symbol.asyncDispose]()
})
const client = server.client()
const line = lineOf(server)
const PHONE = '+14155550132'

type Shown = { id: string; event: string; data: string }

/** Follows the stream until it is closed; `open` resolves once the server is ready. */
async function follow(o: { lastEventId?: string; apiKey?: string; on?: typeof server } = {}) {
  const closing = new AbortController()
  const headers = o.lastEventId === undefined ? {} : { 'last-event-id': o.lastEventId }
  const answer = await sandbox(o.on ?? server, '/events', {
    headers,
    signal: closing.signal,
    ...(o.apiKey === undefined ? {} : { apiKey: o.apiKey }),
  })
  const shown: Shown[] = []
  let ready = false
  let rest = ''
  void (async () => {
    const decoder = new TextDecoder()
    for await (const chunk of answer.body ?? []) {
      rest += decoder.decode(chunk, { stream: true })
      const blocks = rest.split('\n\n')
      rest = blocks.pop() ?? ''
      for (const block of blocks) {
        if (!block.includes('\ndata: ')) ready = true
        else shown.push(parse(block))
      }
    }
  })().catch(() => {})
  await eventually(
    async () => ready,
    (is) => is,
  )
  return {
    answer,
    shown,
    until: (count: number) =>
      eventually(
        async () => shown,
        (found) => found.length >= count,
      ),
    [Symbol.dispose]: () => closing.abort(),
  }
}

function parse(block: string): Shown {
  const fields = Object.fromEntries(block.split('\n').map((text) => text.split(/: (.*)/s).slice(0, 2)))
  assert.deepEqual(Object.keys(fields), ['id', 'event', 'data'])
  return fields as Shown
}
const eventOf = ({ data }: Shown) => JSON.parse(data) as WebhookEvent

test('events come as they happen, without a subscription, as the body of the webhook', async () => {
  using stream = await follow()
  assert.equal(stream.answer.status, 200)
  assert.equal(stream.answer.headers.get('content-type'), 'text/event-stream')
  assert.match(stream.answer.headers.get('x-trace-id') ?? '', /^[0-9a-f]{32}$/)
  const { message_id } = await receive(server, { from: PHONE, to: line, text: 'Line\r\nbreak: ü' })
  await stream.until(2)
  assert.deepEqual(
    stream.shown.map(({ event }) => event),
    ['chat.created', 'message.received'],
  )
  for (const shown of stream.shown) {
    assert.equal(eventOf(shown).event_id, shown.id)
    assert.equal(eventOf(shown).event_type, shown.event)
  }
  const [, received] = stream.shown
  assert.ok(received)
  assert.deepEqual(
    [eventOf(received).data.id, eventOf(received).data.parts[0]?.value],
    [message_id, 'Line\r\nbreak: ü'],
  )

  await subscribe(client, receiver.url('/'), ['message.received'])
  await receive(server, { from: PHONE, to: line, text: 'To both' })
  await stream.until(3)
  const [delivery] = await eventually(
    async () => receiver.deliveries,
    (found) => found.length === 1,
  )
  assert.equal(stream.shown[2]?.data, delivery?.body)
})

test('Last-Event-ID goes on behind that event; without it nothing old is shown', async () => {
  const seen: Shown[] = []
  {
    using first = await follow()
    await receive(server, { from: PHONE, to: line, text: 'One' })
    seen.push(...(await first.until(1)))
  }
  const [last] = seen
  assert.ok(last)
  for (const value of ['Two', 'Three']) await receive(server, { from: PHONE, to: line, text: value })
  using again = await follow({ lastEventId: last.id.toUpperCase() })
  using fresh = await follow()
  using odd = await follow({ lastEventId: 'what?' })
  await receive(server, { from: PHONE, to: line, text: 'Four' })
  await Promise.all([again.until(3), fresh.until(1), odd.until(1)])
  const words = (shown: Shown[]) => shown.map((one) => eventOf(one).data.parts[0]?.value)
  assert.deepEqual(words(again.shown), ['Two', 'Three', 'Four'])
  assert.deepEqual(words(fresh.shown), ['Four'])
  assert.deepEqual(words(odd.shown), ['Four'])
})

test('all of 250 events are shown, in their order', async () => {
  using stream = await follow()
  const messages: string[] = []
  for (let at = 0; at < 250; at++) {
    messages.push((await receive(server, { from: PHONE, to: line, text: `${at}` })).message_id)
  }
  await stream.until(250)
  assert.deepEqual(
    stream.shown.map((one) => eventOf(one).data.id),
    messages,
  )
})

test('the events of another partner are not shown, even behind one of their ids', async () => {
  const other = await createPartner(server, '+12025550183')
  using theirs = await follow({ apiKey: other.apiKey })
  using stream = await follow()
  await other.client.chats.create({ from: other.phoneNumber, to: [PHONE], message: { parts: [text('Private')] } })
  const [first] = await theirs.until(3)
  assert.ok(first)
  using behind = await follow({ lastEventId: first.id })
  await receive(server, { from: PHONE, to: line, text: 'Ours' })
  await Promise.all([stream.until(1), behind.until(1)])
  for (const { shown } of [stream, behind])
    assert.deepEqual(
      shown.map((one) => eventOf(one).data.parts[0]?.value),
      ['Ours'],
    )
})

test('a server that is told to stop does not wait for its readers', async () => {
  await using own = await startServer()
  using stream = await follow({ on: own })
  const began = Date.now()
  assert.equal(await own.stop(), 0)
  assert.ok(Date.now() - began < 10_000)
  assert.deepEqual(stream.shown, [])
})

test('time that was moved and put back does not hide what happens next', async () => {
  await advance(server, 86_400)
  await receive(server, { from: PHONE, to: line, text: 'Tomorrow' })
  await sandbox(server, '/clock', { json: { reset: true } })
  using stream = await follow()
  await receive(server, { from: PHONE, to: line, text: 'Today' })
  await stream.until(1)
  assert.equal(eventOf(stream.shown[0] ?? assert.fail()).data.parts[0]?.value, 'Today')
})
