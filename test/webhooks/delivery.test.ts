/**
 * Contract 5.3: what counts as delivered, what is tried again and when, and what a bad receiver can do to us. All side by
 * side, in real time: each test has a line of its own, so that its subscription hears of nothing else.
 */
import assert from 'node:assert/strict'
import { lookup } from 'node:dns/promises'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openHostileOrigin } from '../support/hostile-origin.ts'
import {
  assertSigned,
  type Delivery,
  deadPort,
  inTurn,
  openReceiver,
  type Receiver,
  subscribe,
} from '../support/receiver.ts'
import { type Listed, listDeliveries, receive } from '../support/sandbox.ts'
import { type Server, startServer } from '../support/satchel.ts'
import { eventually } from '../support/scene.ts'

const LINES = Array.from({ length: 60 }, (_, index) => `+120255501${String(index).padStart(2, '0')}`)
const hostile = await openHostileOrigin({ plain: true })
const server = await startServer({
  env: { SATCHEL_EGRESS_ALLOW: '127.0.0.1:*', SATCHEL_PHONE_NUMBERS: LINES.join(',') },
})
after(async () => {
  await server[Symbol.asyncDispose]()
  await hostile[Symbol.asyncDispose]()
})
const client = server.client()
const PHONE = '+14155550155'
let used = 0
const takeLine = () => LINES[used++] ?? assert.fail('more lines are needed')

/** A receiver that only this test's events reach. */
async function scene(t: TestContext, o: { answer?: Receiver['answer']; path?: string } = {}) {
  const receiver = await openReceiver()
  t.after(() => receiver[Symbol.asyncDispose]())
  if (o.answer) receiver.answer = o.answer
  return { receiver, ...(await listen(receiver.url(o.path))) }
}

async function listen(url: string) {
  const line = takeLine()
  const { id, signing_secret } = await subscribe(client, url, ['message.received'], { phone_numbers: [line] })
  const happen = async (text = 'Hi', from = PHONE) => (await receive(server, { from, to: line, text })).message_id
  return { id, secret: signing_secret, happen }
}

/** The delivery of a message's event, once it is good. */
async function deliveryOf(message: string, good: (delivery: Listed) => boolean, limitMs?: number): Promise<Listed> {
  const [delivery] = await eventually(
    () => listDeliveries(server, `?message=${message}`),
    ([delivery]) => delivery !== undefined && good(delivery),
    limitMs,
  )
  assert.ok(delivery)
  return delivery
}

/** A name of this machine for a private address of its own; `localhost` is refused earlier, for what it is called. */
async function privateName(): Promise<string> {
  const names = [hostname(), 'ip6-localhost', 'ip6-loopback', 'localhost.localdomain']
  for (const name of names) {
    const { address = '' } = await lookup(name).catch(() => ({ address: '' }))
    if (/^(::1$|f[cd]|fe80|127\.|10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.)/.test(address)) return name
  }
  assert.fail(`none of ${names.join(', ')} leads to a private address on this machine`)
}
const isSettled = ({ status }: Listed) => status !== 'pending'
const wasTried =
  (times: number) =>
  ({ attempts }: Listed) =>
    attempts.length >= times

const arrivals = (receiver: Receiver, count: number, limitMs?: number): Promise<Delivery[]> =>
  eventually(
    async () => receiver.deliveries,
    (found) => found.length >= count,
    limitMs,
  )

/** Long enough for a retry to come if one were planned: the first comes after 2.4 s at most. */
const RETRY_WOULD_COME_MS = 3_500

describe('delivery', { concurrency: true }, () => {
  test('a receiver that answers 500 gets the event again, with the same id and fresh signatures', async (t) => {
    const { receiver, happen, secret } = await scene(t, { answer: inTurn(500, 503) })
    const message = await happen()
    const [first, second, third] = await arrivals(receiver, 3, 30_000)
    assert.ok(first && second && third)
    for (const delivery of [first, second, third]) {
      assertSigned(delivery, secret)
      assert.equal(delivery.body, first.body)
      assert.equal(delivery.headers['webhook-id'], first.event.event_id)
      assert.ok(Math.abs(delivery.at / 1000 - Number(delivery.headers['webhook-timestamp'])) < 1.5)
    }
    const timestamps = [first, second, third].map(({ headers }) => headers['webhook-timestamp'])
    assert.equal(new Set(timestamps).size, 3)
    const pauses = [second.at - first.at, third.at - second.at]
    assert.ok(pauses[0] && pauses[0] >= 1_600 && pauses[0] < 10_000, String(pauses))
    assert.ok(pauses[1] && pauses[1] >= 3_200 && pauses[1] < 12_000, String(pauses))
    const delivery = await deliveryOf(message, isSettled)
    assert.deepEqual(
      [delivery.status, delivery.attempts.map(({ status }) => status), delivery.last_error],
      ['delivered', [500, 503, 200], null],
    )
  })

  for (const status of [200, 201, 204, 299])
    test(`${status} is success`, async (t) => {
      const { happen, receiver } = await scene(t, { answer: inTurn(status) })
      const delivery = await deliveryOf(await happen(), isSettled)
      assert.equal(delivery.status, 'delivered')
      assert.equal(receiver.deliveries.length, 1)
    })

  for (const status of [400, 401, 403, 404, 409, 422])
    test(`${status} is final, and the next event is sent all the same`, async (t) => {
      const { happen, receiver, id } = await scene(t, { answer: inTurn(status) })
      const delivery = await deliveryOf(await happen(), isSettled)
      assert.deepEqual([delivery.status, delivery.last_error], ['failed', `answered ${status}`])
      await sleep(RETRY_WOULD_COME_MS)
      assert.equal(receiver.deliveries.length, 1)
      assert.equal((await deliveryOf(await happen(), isSettled)).status, 'delivered')
      assert.equal((await client.webhookSubscriptions.retrieve(id)).is_active, true)
    })

  for (const status of [301, 302, 303, 307, 308])
    test(`a redirect with ${status} is a failure and not followed`, async (t) => {
      const elsewhere = await openReceiver()
      t.after(() => elsewhere[Symbol.asyncDispose]())
      const { happen } = await scene(t, { answer: inTurn({ status, headers: { location: elsewhere.url('/stolen') } }) })
      assert.equal((await deliveryOf(await happen(), isSettled)).status, 'failed')
      assert.deepEqual(elsewhere.deliveries, [])
    })

  for (const status of [429, 503])
    test(`${status} with Retry-After is tried again no sooner than it asks`, async (t) => {
      const { happen, receiver } = await scene(t, { answer: inTurn({ status, headers: { 'retry-after': '5' } }) })
      await happen()
      const [first, second] = await arrivals(receiver, 2, 20_000)
      assert.ok(first && second)
      assert.ok(second.at - first.at >= 5_000, `${second.at - first.at} ms`)
    })

  test('Retry-After may be a date', async (t) => {
    const { happen, receiver } = await scene(t)
    const until = Math.ceil(Date.now() / 1000) * 1000 + 6_000
    receiver.answer = inTurn({ status: 503, headers: { 'retry-after': new Date(until).toUTCString() } })
    await happen()
    const [, second] = await arrivals(receiver, 2, 20_000)
    assert.ok(second && second.at >= until, `${second && second.at - until} ms`)
  })

  test('410 switches the subscription off, and what was owed is not sent any more', async (t) => {
    const { happen, receiver, id } = await scene(t, { answer: inTurn(500, 410, 200, 200) })
    const first = await happen()
    await arrivals(receiver, 1)
    await deliveryOf(await happen('Two', '+14155550156'), isSettled)
    assert.equal((await client.webhookSubscriptions.retrieve(id)).is_active, false)
    const delivery = await deliveryOf(first, isSettled)
    assert.deepEqual([delivery.status, delivery.attempts.length], ['failed', 1])
    await happen('Three')
    await sleep(RETRY_WOULD_COME_MS)
    assert.equal(receiver.deliveries.length, 2)
    await client.webhookSubscriptions.update(id, { is_active: true })
    const last = await happen('Four')
    assert.equal((await deliveryOf(last, isSettled)).status, 'delivered')
    assert.equal(receiver.deliveries.length, 3, 'what happened while it was off is not sent later')
  })

  for (const [what, stop] of [
    ['deleting', (id: string) => client.webhookSubscriptions.delete(id)],
    ['switching off', (id: string) => client.webhookSubscriptions.update(id, { is_active: false })],
  ] as const)
    test(`${what} a subscription stops its retries`, async (t) => {
      const { happen, receiver, id } = await scene(t, { answer: inTurn(500) })
      const message = await happen()
      await deliveryOf(message, wasTried(1))
      await stop(id)
      const { status, attempts, next_attempt_at } = await deliveryOf(message, isSettled)
      assert.deepEqual([status, attempts.length, next_attempt_at], ['failed', 1, null])
      await sleep(RETRY_WOULD_COME_MS)
      assert.equal(receiver.deliveries.length, 1)
    })

  test('a changed target gets the retries', async (t) => {
    const { happen, receiver, id } = await scene(t, { answer: inTurn(500), path: '/old' })
    await happen()
    await arrivals(receiver, 1)
    await client.webhookSubscriptions.update(id, { target_url: receiver.url('/new') })
    const [, second] = await arrivals(receiver, 2)
    assert.equal(second?.path, '/new')
  })

  test('a receiver that takes 11 seconds is given up after 10, and tried again', async (t) => {
    let slow = true
    const { happen, receiver } = await scene(t, {
      answer(response) {
        const pause = slow ? 11_000 : 0
        slow = false
        setTimeout(() => response.writeHead(200).end(), pause).unref()
      },
    })
    const delivery = await deliveryOf(await happen(), isSettled, 30_000)
    const [first, second] = delivery.attempts
    assert.deepEqual([delivery.status, first?.status, second?.status], ['delivered', null, 200])
    assert.match(first?.error ?? '', /longer than 10 s/)
    assert.ok(first && first.latency_ms >= 9_900 && first.latency_ms < 13_000, String(first?.latency_ms))
    assert.equal(receiver.deliveries.length, 2)
    assert.equal(receiver.deliveries[0]?.headers['webhook-id'], receiver.deliveries[1]?.headers['webhook-id'])
  })

  test('a receiver that answers after 9 seconds has taken the event', async (t) => {
    const { happen, receiver } = await scene(t, {
      answer: (response) => void setTimeout(() => response.writeHead(200).end(), 9_000).unref(),
    })
    const delivery = await deliveryOf(await happen(), isSettled, 20_000)
    assert.deepEqual([delivery.status, delivery.attempts.length], ['delivered', 1])
    assert.equal(receiver.deliveries.length, 1)
  })

  test('a receiver that refuses the connection is tried again', async (t) => {
    const port = await deadPort()
    const { happen } = await listen(`http://127.0.0.1:${port}/`)
    const message = await happen()
    const before = await deliveryOf(message, wasTried(1))
    assert.deepEqual([before.status, before.attempts[0]?.status], ['pending', null])
    assert.match(before.last_error ?? '', /refused/)
    const receiver = await openReceiver({ port })
    t.after(() => receiver[Symbol.asyncDispose]())
    assert.equal((await deliveryOf(message, isSettled)).status, 'delivered')
    assert.equal(receiver.deliveries.length, 1)
  })

  for (const [what, path] of [
    ['closes instead of answering', '/reset'],
    ['speaks no HTTP', '/garbage'],
    ['sends 64 KB of headers', '/huge-headers'],
  ] as const)
    test(`a receiver that ${what} is tried again`, async () => {
      const { happen } = await listen(hostile.url(path, '127.0.0.1'))
      const delivery = await deliveryOf(await happen(), wasTried(2))
      assert.deepEqual([delivery.status, delivery.attempts[0]?.status], ['pending', null])
    })

  for (const [what, path] of [
    ['announces more than it sends', '/short'],
    ['sends more than it announces', '/long'],
    ['breaks its answer off', '/cut'],
    ['sends what was not asked to be compressed', '/gzip'],
    ['stops in the middle of its answer', '/stall-body'],
    ['drips its answer', '/drip'],
  ] as const)
    test(`a 200 is a 200, though the receiver ${what}`, async () => {
      const { happen } = await listen(hostile.url(path, '127.0.0.1'))
      const delivery = await deliveryOf(await happen(), isSettled, 20_000)
      assert.deepEqual([delivery.status, delivery.attempts.map(({ status }) => status)], ['delivered', [200]])
    })

  test('a name that leads to a private address is refused when it is dialled, and not tried again', async (t) => {
    const name = await privateName()
    const { receiver } = await scene(t)
    const { happen } = await listen(`https://${name}:${receiver.port}/`)
    const delivery = await deliveryOf(await happen(), isSettled)
    assert.deepEqual([delivery.status, delivery.attempts.length], ['failed', 1])
    assert.equal(delivery.last_error, 'the address may not be called')
    assert.deepEqual(receiver.deliveries, [])
  })

  test('a name that does not exist is not tried again', async () => {
    const { happen } = await listen('https://nobody.invalid/hook')
    const delivery = await deliveryOf(await happen(), isSettled)
    assert.deepEqual([delivery.status, delivery.attempts.length], ['failed', 1])
    assert.equal(delivery.last_error, 'the host name could not be resolved')
  })

  test('the events of a chat arrive in their order, though the receiver is slow', async (t) => {
    const { receiver, happen } = await scene(t, {
      answer: (response) => void setTimeout(() => response.writeHead(200).end(), Math.random() * 120),
    })
    const phones = ['+14155550161', '+14155550162', '+14155550163']
    const sent = new Map<string, string[]>(phones.map((phone) => [phone, []]))
    for (let round = 0; round < 12; round++) {
      for (const phone of phones) sent.get(phone)?.push(await happen(`${round}`, phone))
    }
    const all = await arrivals(receiver, 36, 30_000)
    for (const [phone, messages] of sent) {
      const order = all.map(({ event }) => event.data.id).filter((id) => messages.includes(id))
      assert.deepEqual(order, messages, phone)
    }
  })

  test('a chat that waits for a retry does not hold up another', async (t) => {
    const { receiver, happen } = await scene(t, {
      answer: (response, { event }) => void response.writeHead(event.data.parts[0]?.value === 'bad' ? 500 : 200).end(),
    })
    const bad = await happen('bad', '+14155550171')
    await deliveryOf(bad, wasTried(1))
    const good = await happen('good', '+14155550172')
    assert.equal((await deliveryOf(good, isSettled)).status, 'delivered')
    assert.equal((await deliveryOf(bad, wasTried(1))).status, 'pending')
    assert.ok(receiver.deliveries.length >= 2)
  })

  test('a short break with many events under way delays them by seconds, not by minutes', async (t) => {
    const broken = Array.from({ length: 16 }, () => 500)
    const held: (() => void)[] = []
    const { receiver, happen } = await scene(t, {
      answer(response) {
        const status = broken.pop()
        if (status === undefined) response.writeHead(200).end()
        else {
          held.push(() => response.writeHead(status).end())
          if (broken.length === 0) for (const release of held) release()
        }
      },
    })
    const phones = Array.from({ length: 16 }, (_, index) => `+1415555${3000 + index}`)
    const messages = await Promise.all(phones.map((phone) => happen('x', phone)))
    for (const message of messages) await deliveryOf(message, isSettled, 30_000)
    const ids = new Set(receiver.deliveries.map(({ event }) => event.event_id))
    assert.equal(ids.size, 16)
  })
})

// Alone, since the host that pours so much shares a process with the other receivers.
for (const path of ['/endless', '/file?bytes=1073741824'])
  test(`200 answers of ${path} cost neither memory nor connections`, async () => {
    const { happen } = await listen(hostile.url(path, '127.0.0.1'))
    await deliveryOf(await happen(), isSettled)
    const before = await residentMegabytes(server)
    const messages = await Promise.all(Array.from({ length: 200 }, (_, at) => happen('x', `+1415555${2000 + at}`)))
    for (const message of messages) assert.equal((await deliveryOf(message, isSettled)).status, 'delivered')
    const grown = (await residentMegabytes(server)) - before
    assert.ok(grown < 150, `${grown} MB more`)
  })

test('https to a receiver whose certificate is trusted delivers; to another it does not', async () => {
  await using secure = await openHostileOrigin()
  const folder = await mkdtemp(join(tmpdir(), 'satchel-ca-'))
  try {
    await writeFile(join(folder, 'ca.pem'), secure.ca)
    const allow = { SATCHEL_EGRESS_ALLOW: `localhost:${secure.port}` }
    for (const [env, status] of [
      [{ ...allow, NODE_EXTRA_CA_CERTS: join(folder, 'ca.pem') }, 'delivered'],
      [allow, 'pending'],
    ] as const) {
      await using own = await startServer({ env })
      await subscribe(own.client(), secure.url('/file?bytes=2'), ['message.received'])
      await receive(own, { from: PHONE, to: own.phoneNumbers[0] ?? '', text: 'Hi' })
      const [delivery] = await eventually(
        () => listDeliveries(own),
        ([first]) => first !== undefined && first.attempts.length > 0,
      )
      assert.equal(delivery?.status, status)
      if (status === 'pending') assert.match(delivery?.last_error ?? '', /certificate/)
    }
    assert.equal(secure.requests.length, 1)
  } finally {
    await rm(folder, { recursive: true })
  }
})

async function residentMegabytes({ process: { pid } }: Server): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024
}
