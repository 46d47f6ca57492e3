/** Contract 7.1: the same key again gets the first answer again, and nothing is sent twice. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { png } from '../fixtures/media/files.ts'
import { assertRefused } from '../support/answers.ts'
import { openMediaOrigin } from '../support/media-origin.ts'
import { startServer } from '../support/satchel.ts'
import { createPartner, keptBy, lineOf, openChat, postJson, text } from '../support/scene.ts'

const origin = await openMediaOrigin()
const server = await startServer({ env: origin.env })
after(async () => {
  await server[Symbol.asyncDispose]()
  await origin[Symbol.asyncDispose]()
})
const client = server.client()
const from = lineOf(server)
const chat = await openChat(server, '+14155550100')
const NOWHERE = '00000000-0000-4000-8000-000000000000'
const keyed = (idempotency_key: string, value = 'Once') => ({ message: { parts: [text(value)], idempotency_key } })
const send = (body: unknown, to = chat) => postJson(server, `/v3/chats/${to}/messages`, body)
const create = (to: string, message: object) => postJson(server, '/v3/chats', { from, to: [to], ...message })
const whole = async (answer: Response) => ({ status: answer.status, body: await answer.text() })

test('the same key again answers the same, letter for letter, and sends nothing', async () => {
  const first = await send(keyed('a'))
  const { messages } = await keptBy(server)
  const again = await send(keyed('a'))
  assert.notEqual(again.headers.get('x-trace-id'), first.headers.get('x-trace-id'))
  assert.deepEqual(await whole(again), await whole(first))
  assert.equal((await keptBy(server)).messages, messages)
})

test('what else the repeat says makes no difference', async () => {
  const first = await whole(await send(keyed('b')))
  assert.equal(first.status, 202)
  const other = await openChat(server, '+14155550101')
  assert.deepEqual(await whole(await send(keyed('b', 'Something else'))), first)
  assert.deepEqual(await whole(await send(keyed('b'), other)), first)
  assert.deepEqual(
    await whole(await send({ message: { parts: [{ type: 'media', attachment_id: NOWHERE }], idempotency_key: 'b' } })),
    first,
  )
})

test('eight repeats at the same time make one message', async () => {
  const before = await keptBy(server)
  const answers = await Promise.all(Array.from({ length: 8 }, async () => await whole(await send(keyed('c')))))
  for (const answer of answers) assert.deepEqual(answer, answers[0])
  assert.equal(answers[0]?.status, 202)
  const now = await keptBy(server)
  assert.deepEqual([now.messages, now.keys], [before.messages + 1, before.keys + 1])
})

test('eight creates of one chat with one key make one chat and one message', async () => {
  const before = await keptBy(server)
  const ask = async () => await whole(await create('+14155550102', keyed('d')))
  const answers = await Promise.all(Array.from({ length: 8 }, ask))
  for (const answer of answers) assert.deepEqual(answer, answers[0])
  assert.equal(answers[0]?.status, 201)
  const now = await keptBy(server)
  assert.deepEqual([now.chats, now.messages], [before.chats + 1, before.messages + 1])
})

test('a key counts for creating a chat and for sending alike: whoever came first is answered again', async () => {
  const created = await whole(await create('+14155550103', keyed('e')))
  assert.equal(created.status, 201)
  assert.deepEqual(await whole(await send(keyed('e'))), created)
  const sent = await whole(await send(keyed('f')))
  assert.equal(sent.status, 202)
  assert.deepEqual(await whole(await create('+14155550104', keyed('f'))), sent)
})

test('a file by URL is downloaded once for one key', async () => {
  const url = origin.serve('/once.png', { body: png() })
  const body = { message: { parts: [{ type: 'media', url }], idempotency_key: 'g' } }
  const answers = await Promise.all(
    [send(body), send(body), send(body)].map(async (answer) => await whole(await answer)),
  )
  for (const answer of answers) assert.deepEqual(answer, answers[0])
  assert.equal(answers[0]?.status, 202)
  assert.equal(origin.asked.filter((path) => path === '/once.png').length, 1)
})

for (const [what, message, status] of [
  ['a wrong type', { parts: 'x' }, 400],
  ['a broken rule', { parts: [text('a'), text('b')] }, 400],
  ['an unknown attachment', { parts: [{ type: 'media', attachment_id: NOWHERE }] }, 404],
  ['an unknown message to answer to', { parts: [text('a')], reply_to: { message_id: NOWHERE } }, 404],
  ['a file that cannot be downloaded', { parts: [{ type: 'media', url: origin.url('/missing.png') }] }, 500],
] as const) {
  test(`a try that failed for ${what} does not use up its key`, async () => {
    const key = `after ${what}`
    assert.equal((await send({ message: { ...message, idempotency_key: key } })).status, status)
    assert.equal((await create('+14155550105', { message: { ...message, idempotency_key: key } })).status, status)
    const later = await whole(await send(keyed(key)))
    assert.equal(later.status, 202)
    assert.deepEqual(await whole(await send(keyed(key))), later)
  })
}

test('a failed try beside a good one with the same key leaves exactly the good one', async () => {
  const { messages } = await keptBy(server)
  const bad = { message: { parts: [text('a'), text('b')], idempotency_key: 'h' } }
  const answers = await Promise.all([send(bad), send(keyed('h')), send(bad), send(keyed('h'))])
  const statuses = answers.map((answer) => answer.status).sort()
  assert.ok(statuses.includes(202))
  assert.equal((await keptBy(server)).messages, messages + 1)
})

test('a repeat does not care that the message was delivered, and cares that it was deleted', async () => {
  const first = await send(keyed('i'))
  const { body } = await whole(first)
  const { message } = JSON.parse(body)
  assert.equal((await whole(await send(keyed('i')))).body, body)
  await client.messages.delete(message.id)
  const gone = { status: 404, code: 2002, message: /idempotency key/ }
  await assertRefused(send(keyed('i')), gone)
  await assertRefused(create('+14155550106', keyed('i')), gone)
})

test('a key has at most 255 characters of any kind', async () => {
  for (const key of ['k'.repeat(255), '🌍'.repeat(255), ' ', "'; --"]) {
    const first = await whole(await send(keyed(key)))
    assert.equal(first.status, 202)
    assert.deepEqual(await whole(await send(keyed(key))), first)
  }
  const tooLong = { status: 400, code: 1005, message: /message\.idempotency_key/ }
  await assertRefused(send(keyed('k'.repeat(256))), tooLong)
  await assertRefused(create('+14155550107', keyed('k'.repeat(256))), tooLong)
})

test("keys are a partner's own", async () => {
  const first = JSON.parse((await whole(await send(keyed('j')))).body)
  const stranger = await createPartner(server, '+12025550188')
  const message = { parts: [text('Mine')], idempotency_key: 'j' }
  const theirs = await stranger.client.chats.create({ from: '+12025550188', to: ['+14155550100'], message })
  assert.notEqual(theirs.chat.message.id, first.message.id)
})

test('keys outlive the server', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'satchel-test-'))
  try {
    const body = { to: ['+14155550108'], ...keyed('k') }
    const answers = []
    for (let start = 0; start < 2; start++) {
      await using again = await startServer({ dataDir, env: { SATCHEL_CDN_URL: 'https://cdn.example.com' } })
      answers.push(await whole(await postJson(again, '/v3/chats', { from: lineOf(again), ...body })))
      await again.kill()
    }
    assert.equal(answers[0]?.status, 201)
    assert.deepEqual(answers[1], answers[0])
  } finally {
    await rm(dataDir, { recursive: true, force: true })
  }
})
