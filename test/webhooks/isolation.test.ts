/** One subscriber's trouble is nobody else's: many subscriptions with a dead one among them, and one with a long backlog. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openReceiver, type Receiver, subscribe } from '../support/receiver.ts'
import { listDeliveries, receive } from '../support/sandbox.ts'
import { startServer } from '../support/satchel.ts'
import { eventually } from '../support/scene.ts'

const ALLOW = { SATCHEL_EGRESS_ALLOW: '127.0.0.1:*' }
const PHONE = '+14155550161'

/** Takes connections and never says a word. */
async function openHangingPort() {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

const describe = (delays: number[]) => {
  const sorted = delays.toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
  return `median ${at(0.5)} ms, p99 ${at(0.99)} ms, last ${sorted.at(-1)} ms`
}

/** How long after its message came in each subscription had heard of it. */
async function delaysOf(receiver: Receiver, count: number, happen: () => Promise<string>): Promise<number[]> {
  const began = Date.now()
  const message = await happen()
  const heard = await eventually(
    async () => receiver.deliveries.filter(({ event }) => event.data.id === message),
    (found) => found.length >= count,
    60_000,
  )
  assert.equal(new Set(heard.map(({ path }) => path)).size, count, 'each subscription heard once')
  return heard.map(({ at }) => at - began)
}

test('999 subscriptions hear of an event although the thousandth hangs', async () => {
  await using receiver = await openReceiver()
  await using hanging = await openHangingPort()
  await using server = await startServer({ env: ALLOW })
  const client = server.client()
  const [line = ''] = server.phoneNumbers
  for (let index = 0; index < 999; index += 27) {
    const some = Array.from({ length: 27 }, (_, at) => receiver.url(`/?n=${index + at}`))
    await Promise.all(some.map((url) => subscribe(client, url, ['message.received'])))
  }
  const say = async () => (await receive(server, { from: PHONE, to: line, text: 'Hear' })).message_id
  await delaysOf(receiver, 999, say)
  const without = await delaysOf(receiver, 999, say)
  const dead = await subscribe(client, `http://127.0.0.1:${hanging.port}/`, ['message.received'])
  const withIt = await delaysOf(receiver, 999, say)
  const again = await delaysOf(receiver, 999, say)
  console.log(`  999 of 999:          ${describe(without)}`)
  console.log(`  999 of 1,000:        ${describe(withIt)}`)
  console.log(`  999 of 1,000, again: ${describe(again)}`)
  const [owed] = (await listDeliveries(server, '?status=pending')).filter(
    ({ subscription_id }) => subscription_id === dead.id,
  )
  assert.ok(owed, 'the dead one is still owed')
})

test('a subscription that hangs on a backlog of 600 events does not delay the events of another', async () => {
  await using receiver = await openReceiver()
  await using hanging = await openHangingPort()
  await using server = await startServer({ env: ALLOW })
  const client = server.client()
  const [line = '', quiet = ''] = server.phoneNumbers
  const url = `http://127.0.0.1:${hanging.port}/`
  await subscribe(client, url, ['message.received'], { phone_numbers: [line] })
  await subscribe(client, receiver.url('/quiet'), ['message.received'], { phone_numbers: [quiet] })
  for (let index = 0; index < 600; index += 20) {
    const phones = Array.from({ length: 20 }, (_, at) => `+1415556${1000 + index + at}`)
    await Promise.all(phones.map((from) => receive(server, { from, to: line, text: 'Backlog' })))
  }
  const delays: number[] = []
  // Long enough for the hanging deliveries to time out, the circuit to open, and probes to hang in their turn.
  const end = Date.now() + 26_000
  while (Date.now() < end) {
    const began = Date.now()
    const { message_id } = await receive(server, { from: PHONE, to: quiet, text: 'Single' })
    const [delivery] = await eventually(
      async () => receiver.deliveries.filter(({ event }) => event.data.id === message_id),
      (found) => found.length > 0,
      30_000,
    )
    delays.push((delivery?.at ?? 0) - began)
    await sleep(250)
  }
  console.log(`  single events beside the backlog: ${describe(delays)} (${delays.length})`)
  assert.ok(Math.max(...delays) < 4_000, `${Math.max(...delays)} ms`)
})
