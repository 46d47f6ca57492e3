/**
 * Several nodes are one service: what is acknowledged by one is known to all, nodes may be killed and PostgreSQL may be
 * restarted under load, and nothing acknowledged is lost, sent twice, or told to nobody.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Postgres, query, startPostgres } from '../support/postgres.ts'
import { until } from '../support/wire.ts'
import { type Caller, openCaller } from './caller.ts'
import { findOverlaps, logJobs } from './job-log.ts'
import { type Cluster, startCluster } from './nodes.ts'

const ROLES = ['api', 'api', 'edge', 'edge', 'worker', 'worker'] as const
const ROUNDS = 10
const CALLERS = 6

describe('two API nodes, two edges and two workers', () => {
  let postgres: Postgres
  let database: string
  let cluster: Cluster
  let receiver: Awaited<ReturnType<typeof openReceiver>>

  before(async () => {
    postgres = await startPostgres()
    database = await postgres.createDatabase()
    cluster = await startCluster({ database, roles: ROLES })
    receiver = await openReceiver()
    const body = { target_url: receiver.url, subscribed_events: ['message.sent', 'message.delivered'] }
    const answer = await cluster.call('/v3/webhook-subscriptions', { method: 'POST', body: JSON.stringify(body) })
    assert.equal(answer.status, 201, await answer.text())
  })
  after(async () => {
    await cluster?.[Symbol.asyncDispose]()
    receiver?.close()
    await postgres?.[Symbol.asyncDispose]()
  })

  test('what one node was told the others know', async () => {
    const [first, second] = cluster.of('api').map((node) => node.server)
    assert.ok(first && second)
    const call = (api: string, path: string, init: RequestInit = {}) =>
      fetch(`${api}/api/partner/v3${path}`, {
        ...init,
        headers: { authorization: `Bearer ${cluster.apiKey}`, 'content-type': 'application/json' },
      })
    const caller = openCaller(cluster)
    await caller.work(() => caller.sent.length === 4)
    const [sent] = caller.sent
    assert.ok(sent)
    const text = { parts: [{ type: 'media', attachment_id: sent.attachmentId }] }
    const again = await call(second.api, `/chats/${sent.chatId}/messages`, {
      method: 'POST',
      body: JSON.stringify({ message: text }),
    })
    assert.equal(again.status, 202)
    const { message } = (await again.json()) as { message: { id: string } }
    assert.equal((await call(first.api, `/messages/${message.id}`)).status, 200)
    for (const edge of cluster.of('edge')) {
      const file = await fetch(sent.downloadUrl.replace(cluster.cdn, `http://127.0.0.1:${edge.cdnPort}`))
      assert.deepEqual(Buffer.from(await file.arrayBuffer()), sent.bytes)
    }
  })

  test('each node serves what is its part, and tells how it is', async () => {
    for (const node of cluster.nodes) {
      for (const path of ['/healthz', '/readyz', '/metrics']) {
        assert.equal((await fetch(node.server.api + path)).status, 200, `${node.name} ${path}`)
      }
      const answer = await fetch(`${node.server.api}/api/partner/v3/chats`)
      assert.equal(answer.status, node.role === 'api' ? 401 : 404, node.name)
    }
  })

  test(`${ROUNDS} rounds of kill -9 of any two nodes under load lose nothing that was acknowledged`, async (t) => {
    const began = Date.now()
    await logJobs(database)
    const callers = await underLoad(cluster, async () => {
      for (let round = 0; round < ROUNDS; round++) {
        await sleep(600 + Math.random() * 600)
        const victims = cluster.nodes.toSorted(() => Math.random() - 0.5).slice(0, 2)
        await Promise.all(victims.map((node) => cluster.kill(node)))
        await sleep(Math.random() * 800)
        await Promise.all(victims.map((node) => cluster.start(node)))
      }
    })
    t.diagnostic(await settle(callers, { cluster, database, receiver, began }))
    const { claims, reclaimed, overlaps } = await findOverlaps(database, cluster.nodes, cluster.killedAt)
    assert.deepEqual(overlaps, [], 'a job that two living nodes had at the same time')
    t.diagnostic(`${claims} claims of jobs, ${reclaimed} of them after the node that had it was killed`)
    assert.ok(claims > callers.flatMap(({ sent }) => sent).length, 'every message takes a job at least')
  })

  test('PostgreSQL is restarted under load, at once and in order, and all goes on without help', async (t) => {
    const began = Date.now()
    const callers = await underLoad(cluster, async (callers) => {
      for (const mode of ['immediate', 'fast', 'immediate'] as const) {
        await untilSent(callers, 10)
        await postgres.stop(mode)
        await sleep(1_000)
        await postgres.start()
      }
      await untilSent(callers, 10)
    })
    t.diagnostic(await settle(callers, { cluster, database, receiver, began }))
  })
})

async function underLoad(cluster: Cluster, disturb: (callers: Caller[]) => Promise<void>): Promise<Caller[]> {
  let stopping = false
  const callers = Array.from({ length: CALLERS }, () => openCaller(cluster))
  const working = Promise.all(callers.map((caller) => caller.work(() => stopping)))
  working.catch(() => {})
  try {
    await disturb(callers)
  } finally {
    stopping = true
  }
  await working
  return callers
}

/** Waits for that many more acknowledgements, so that each disturbance finds the service at work and is followed by work. */
async function untilSent(callers: readonly Caller[], more: number): Promise<void> {
  const total = () => callers.reduce((sum, { sent }) => sum + sent.length, 0)
  const goal = total() + more
  const isOver = () => total() >= goal || callers.some(({ unexpected }) => unexpected.length > 0)
  await until(`${more} more messages are sent`, isOver, 180_000)
}

type Scene = { cluster: Cluster; database: string; receiver: { events: Map<string, Told> }; began: number }

/** Everything acknowledged is there, once, and told; what the disturbance left behind is worked off. */
async function settle(callers: Caller[], { cluster, database, receiver, began }: Scene): Promise<string> {
  const disturbedMs = Date.now() - began
  const sent = callers.flatMap((caller) => caller.sent)
  const unexpected = callers.flatMap((caller) => caller.unexpected)
  assert.deepEqual(unexpected.slice(0, 5), [], `${unexpected.length} answers that were not promised`)
  assert.ok(sent.length > 20, `only ${sent.length} were sent`)
  for (const { messageId, attachmentId, downloadUrl, bytes, key } of sent) {
    const answer = await cluster.call(`/v3/messages/${messageId}`)
    assert.equal(answer.status, 200, messageId)
    const { parts } = (await answer.json()) as { parts: { value?: string; id?: string }[] }
    assert.deepEqual([parts[0]?.value, parts[1]?.id], [key, attachmentId])
    const file = await fetch(downloadUrl)
    assert.deepEqual(Buffer.from(await file.arrayBuffer()), bytes, downloadUrl)
  }
  const stored = await query<{ n: string }>(
    database,
    'select count(*) as n from messages where idempotency_key = any($1)',
    [sent.map(({ key }) => key)],
  )
  assert.equal(Number(stored.rows[0]?.n), sent.length, 'a message that was sent twice')
  const owed = `select count(*) as n from webhook_deliveries where status <> 'delivered'`
  const open = `select count(*) as n from jobs where kind <> 'retention.sweep'`
  for (const [what, sql] of [
    ['jobs', open],
    ['deliveries', owed],
  ] as const) {
    for (const until = Date.now() + 90_000; ; await sleep(200)) {
      const { rows } = await query<{ n: string }>(database, sql)
      if (rows[0]?.n === '0') break
      assert.ok(Date.now() < until, `${rows[0]?.n} ${what} are left over`)
    }
  }
  const ours = new Set(sent.map(({ messageId }) => messageId))
  const events = [...receiver.events.values()].filter(({ messageId }) => ours.has(messageId))
  for (const { messageId } of sent) {
    for (const type of ['message.sent', 'message.delivered']) {
      const told = events.filter((event) => event.messageId === messageId && event.type === type)
      assert.equal(told.length, 1, `${type} of ${messageId}`)
    }
  }
  const overlaps = events.filter((event) => event.atOnce > 1)
  assert.deepEqual(overlaps, [], 'delivered twice at the same time')
  const repeated = callers.reduce((sum, caller) => sum + caller.repeated, 0)
  const twice = events.filter((event) => event.times > 1).length
  const seconds = ((Date.now() - began) / 1000).toFixed(1)
  return `${sent.length} sent in ${(disturbedMs / 1000).toFixed(1)} s, ${repeated} calls repeated, ${twice} webhooks told more than once; settled after ${seconds} s`
}

type Told = { type: string; messageId: string; times: number; running: number; atOnce: number }

/** Takes webhooks, slowly enough that two attempts of one would meet here. */
async function openReceiver() {
  const events = new Map<string, Told>()
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request) chunks.push(chunk)
    } catch {
      return
    }
    const { event_type: type, data } = JSON.parse(Buffer.concat(chunks).toString())
    const id = String(request.headers['webhook-id'])
    const told = events.get(id) ?? { type, messageId: data.id, times: 0, running: 0, atOnce: 0 }
    events.set(id, told)
    told.times++
    told.running++
    told.atOnce = Math.max(told.atOnce, told.running)
    await sleep(20)
    told.running--
    response.writeHead(200).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    events,
    url: `http://127.0.0.1:${port}/`,
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}
