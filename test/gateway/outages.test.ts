/** The gateway goes away and comes back, and we are killed in between: nothing is lost and nothing is sent twice. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { jpeg } from '../fixtures/media/files.ts'
import { startServer } from '../support/satchel.ts'
import { eventually, keptBy, lineOf } from '../support/scene.ts'
import { accept, openGatewayDouble, report, SECRET } from './double.ts'
import { openStage } from './stage.ts'

test('messages wait for a gateway that is down, and each arrives once when it is up again', async () => {
  const first = await openGatewayDouble()
  const { port, url } = first
  await first[Symbol.asyncDispose]()
  await using server = await startServer({ env: { SATCHEL_GATEWAY_URL: url, SATCHEL_GATEWAY_SECRET: SECRET } })
  const client = server.client()
  const from = lineOf(server)
  const send = async (to: string) => {
    const message = { parts: [{ type: 'text' as const, value: 'Hello' }] }
    return (await client.chats.create({ from, to: [to], message })).chat.message.id
  }
  const ids = await Promise.all(['+14155550101', '+14155550102', '+14155550103'].map(send))
  await eventually(
    async () => server.log().match(/"job":"message.send"/g)?.length ?? 0,
    (tries) => tries >= 6,
  )
  for (const id of ids) assert.equal((await client.messages.retrieve(id)).delivery_status, 'queued')
  await using gateway = await openGatewayDouble({ port })
  await eventually(
    async () => gateway.messages.size,
    (taken) => taken === 3,
  )
  assert.deepEqual([...gateway.messages.keys()].sort(), [...ids].sort())
  assert.equal(gateway.posts.length, 3)
})

const stage = await openStage()
after(() => stage[Symbol.asyncDispose]())
const { gateway } = stage

test('killed while the gateway has the message but has not said so, we hand it over again under the same id', async () => {
  gateway.answer = () => {}
  const id = await stage.send('+14155550104')
  await stage.taken(id)
  await stage.server.kill()
  gateway.answer = accept
  await stage.restart()
  await eventually(
    async () => gateway.posts.filter(({ message }) => message.id === id).length,
    (posts) => posts === 2,
  )
  const [one, two] = gateway.posts.filter(({ message }) => message.id === id)
  assert.deepEqual([one?.message, one?.headers['webhook-id']], [two?.message, two?.headers['webhook-id']])
  await stage.report({ type: 'delivered', message_id: id })
  assert.equal(await stage.status(id), 'delivered')
})

test('a report that is made while we are still waiting for the answer is taken', async () => {
  gateway.answer = (response, message) => {
    void stage.report({ type: 'delivered', message_id: message.id }).then(() => accept(response, message))
  }
  const id = await stage.send('+14155550105')
  await eventually(
    () => stage.status(id),
    (status) => status === 'delivered',
  )
  gateway.answer = accept
})

test('killed after a report, we hand over nothing again that the gateway has spoken of', async () => {
  gateway.answer = () => {}
  const id = await stage.send('+14155550106')
  await stage.taken(id)
  await stage.report({ type: 'sent', message_id: id })
  await stage.server.kill()
  gateway.answer = accept
  await stage.restart()
  const later = await stage.send('+14155550107')
  await stage.taken(later)
  assert.equal(gateway.posts.filter(({ message }) => message.id === id).length, 1)
  await stage.report({ type: 'read', message_id: id })
  assert.equal(await stage.status(id), 'read')
})

test('killed while a message comes in, we have nothing of it, and have it once after the next try', async () => {
  gateway.files.set('slow.jpg', jpeg())
  const url = new URL('/media/slow.jpg', gateway.url).href
  const to = lineOf(stage.server)
  const event = { type: 'received', carrier_ref: 'killed', from: '+14155550108', to, text: 'Look', media: [{ url }] }
  let asked = false
  gateway.hold = () => {
    asked = true
  }
  const lost = report(stage.server.api, event, { id: 'killed' }).catch((error: unknown) => error)
  await eventually(
    async () => asked,
    (is) => is,
  )
  await stage.server.kill()
  assert.ok((await lost) instanceof Error)
  gateway.hold = (go) => go()
  await stage.restart()
  const before = await keptBy(stage.server)
  const first = await stage.report(event, { id: 'killed' })
  assert.deepEqual(await stage.report(event, { id: 'killed' }), first)
  const kept = await keptBy(stage.server)
  assert.deepEqual(
    [kept.messages - before.messages, kept.attachments - before.attachments, kept.files.length - before.files.length],
    [1, 1, 1],
  )
})
