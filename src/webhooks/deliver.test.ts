/** The dispatcher on a database and a receiver of its own: what becomes of attempts that end at the same moment. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { App } from '../app.ts'
import { systemClock } from '../clock.ts'
import type { Opened } from '../db/schema.ts'
import { openSqlite } from '../db/sqlite.ts'
import { uuidv7 } from '../ids.ts'
import type { Loop } from '../jobs/loop.ts'
import { openLog } from '../log.ts'
import { openMetrics } from '../metrics.ts'
import { insertPartner } from '../partners/rows.ts'
import { parseEgressAllow } from '../remote/address.ts'
import { createRemote } from '../remote/request.ts'
import { noTracer } from '../telemetry/tracer.ts'
import { startDispatcher } from './deliver.ts'
import { insertDeliveries, insertEvent, insertSubscription } from './rows.ts'

const folder = await mkdtemp(join(tmpdir(), 'satchel-deliver-'))
const metrics = openMetrics({ jobs: async () => ({ waiting: 0, failed: 0 }) })
const remote = createRemote({ allow: parseEgressAllow('127.0.0.0/8'), userAgent: 'Satchel/test' })
const newId = uuidv7(systemClock)

/** Takes requests and answers none of them by itself. */
let waiting: { eventId: string; response: ServerResponse }[] = []
const receiver = createServer((request, response) => {
  request.resume()
  request.on('end', () => waiting.push({ eventId: String(request.headers['webhook-id']), response }))
})
receiver.listen(0, '127.0.0.1')
await once(receiver, 'listening')
const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`

after(async () => {
  await remote[Symbol.asyncDispose]()
  receiver.close()
  await rm(folder, { recursive: true })
})

let files = 0
let path: string
let opened: Opened
let dispatcher: Loop
beforeEach(async () => {
  waiting = []
  path = join(folder, `${++files}.sqlite`)
  opened = await openSqlite(path)
})
afterEach(async () => {
  await dispatcher.stop()
  await opened[Symbol.asyncDispose]()
})

/** Owes `count` events of as many chats, and resolves with the ids of their deliveries once all are under way. */
async function beginDelivering(count: number): Promise<string[]> {
  const { db } = opened
  await insertPartner(db, { id: 'partner', name: 'x', created_at: 1 }, newId())
  await insertSubscription(db, {
    id: 'subscription',
    partner_id: 'partner',
    target_url: url,
    webhook_version: '2026-02-03',
    subscribed_events: '[]',
    phone_numbers: null,
    is_active: 1,
    signing_secret: 'whsec_AAAA',
    old_secret: null,
    old_secret_until: null,
    failures: 0,
    open_until: 0,
    created_at: 1,
    updated_at: 1,
  })
  const rows = Array.from({ length: count }, (_, index) => ({
    id: newId(),
    subscription_id: 'subscription',
    event_id: `event-${index}`,
    partner_id: 'partner',
    chat_id: `chat-${index}`,
    status: 'pending' as const,
    attempts: 0,
    next_attempt_at: 1,
    leased_until: 0,
    last_error: null,
    created_at: Date.now(),
    finished_at: null,
  }))
  for (const { event_id: id, chat_id } of rows) {
    const about = { type: 'message.sent', chat_id, message_id: null, trace_id: 't', data: '{}', data_2025: null }
    await insertEvent(db, { id, partner_id: 'partner', ...about, created_at: 1 })
  }
  await insertDeliveries(db, rows)
  const app = { db, clock: systemClock, newId, log: openLog('silent'), metrics, tracer: noTracer, remote }
  dispatcher = startDispatcher(app as unknown as App, opened, { userAgent: 'Satchel/test', node: 'a' })
  await until(() => waiting.length === count)
  return rows.map(({ id }) => id)
}

/** All at the same moment. */
function answer(statusOf: (eventId: string) => number): void {
  for (const { eventId, response } of waiting.splice(0)) response.writeHead(statusOf(eventId)).end()
}

async function until(isSo: () => Promise<boolean> | boolean): Promise<void> {
  for (const end = Date.now() + 20_000; !(await isSo()); await sleep(10)) assert.ok(Date.now() < end, 'not in time')
}

const deliveries = () => opened.db.selectFrom('webhook_deliveries').selectAll().orderBy('id').execute()
const attempts = () => opened.db.selectFrom('webhook_attempts').selectAll().orderBy('delivery_id').execute()

test('of attempts that end together one that failed is tried again, and the others are done and end the count of failures', async () => {
  const ids = await beginDelivering(12)
  answer((eventId) => (eventId === 'event-5' ? 503 : 204))
  await until(async () => (await attempts()).length === 12)
  const rows = await deliveries()
  assert.deepEqual(
    rows.map(({ status, leased_until, last_error }) => [status, leased_until, last_error]),
    ids.map((_, index) => (index === 5 ? ['pending', 0, 'answered 503'] : ['delivered', 0, null])),
  )
  assert.ok((rows[5]?.next_attempt_at ?? 0) > Date.now())
  assert.deepEqual(
    (await attempts()).map(({ delivery_id, status }) => [delivery_id, status]),
    ids.map((id, index) => [id, index === 5 ? 503 : 204]),
  )
  assert.equal((await opened.db.selectFrom('webhook_subscriptions').select('failures').execute())[0]?.failures, 0)
})

for (const [about, status] of [
  ['planned', 503],
  ['given up', 404],
] as const)
  test(`a delivery that another worker has begun anew is not ${about} by the one that lost it`, async () => {
    const ids = await beginDelivering(4)
    const others = { attempts: 2, leased_by: 'b', leased_until: Date.now() + 60_000 }
    await opened.db.updateTable('webhook_deliveries').set(others).where('id', '=', String(ids[1])).execute()
    answer((eventId) => (eventId === 'event-1' ? status : 200))
    await until(async () => (await attempts()).length === 4)
    assert.deepEqual(
      (await deliveries()).map(({ status, attempts, leased_until }) => [status, attempts, leased_until]),
      [
        ['delivered', 1, 0],
        ['pending', 2, others.leased_until],
        ['delivered', 1, 0],
        ['delivered', 1, 0],
      ],
    )
  })

test('what ends while the database is away is recorded once it is back, and sent once', async () => {
  const ids = await beginDelivering(6)
  const other = new DatabaseSync(path)
  other.exec('begin immediate')
  answer(() => 200)
  // Longer than a write waits for the lock of another, and shorter than the lease.
  await sleep(5_500)
  other.exec('rollback')
  other.close()
  await until(async () => (await deliveries()).every(({ status }) => status === 'delivered'))
  assert.deepEqual(
    (await attempts()).map(({ delivery_id }) => delivery_id),
    ids,
  )
  assert.deepEqual(waiting, [])
})
