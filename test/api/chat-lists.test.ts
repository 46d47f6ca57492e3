/** Contract 4.6 and 7.3: listing chats, with its filters and its pages. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { assertRefused } from '../support/answers.ts'
import { startServer } from '../support/satchel.ts'
import { text } from '../support/scene.ts'

const LINES = ['+12025550110', '+12025550111'] as const
const [A, B, C, D] = ['+14155550001', '+14155550002', '+14155550003', 'dora@example.com'] as const
const server = await startServer({ env: { SATCHEL_PHONE_NUMBERS: LINES.join(',') } })
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const chats = new Map<string, string>()
const names = (found: { id: string }[]) => found.map(({ id }) => chats.get(id))

async function openChat(name: string, from: string, to: string[]) {
  const { chat } = await client.chats.create({ from, to, message: { parts: [text('Hello')] } })
  chats.set(chat.id, name)
}

before(async () => {
  await openChat('A', LINES[0], [A])
  await openChat('AB', LINES[0], [A, B])
  await openChat('ABC', LINES[0], [A, B, C])
  await openChat('D', LINES[0], [D])
  await openChat('A on 2', LINES[1], [A])
})

const enc = encodeURIComponent
for (const [query, expected] of [
  ['', ['A on 2', 'D', 'ABC', 'AB', 'A']],
  [`from=${enc(LINES[0])}`, ['D', 'ABC', 'AB', 'A']],
  [`from=${enc(LINES[1])}`, ['A on 2']],
  [`from=${enc('+12025550199')}`, []],
  [`to=${enc(A)}`, ['A on 2', 'ABC', 'AB', 'A']],
  [`to=${enc(`${A},${B}`)}`, ['ABC', 'AB']],
  [`to=${enc(A)}&to=${enc(B)}`, ['ABC', 'AB']],
  [`to=${enc(A)}&to=${enc(`${B},${C}`)}`, ['ABC']],
  [`to=${enc(D)}`, ['D']],
  [`to=${enc('DORA@EXAMPLE.COM')}`, ['D']],
  [`to=${enc(LINES[0])}`, []],
  [`to=${enc('+14155550009')}`, []],
  [`from=${enc(LINES[1])}&to=${enc(B)}`, []],
  ['limit=2', ['A on 2', 'D']],
  ['limit=100', ['A on 2', 'D', 'ABC', 'AB', 'A']],
] as const) {
  test(`chats?${decodeURIComponent(query)} lists ${expected.join(', ') || 'nothing'}, newest activity first`, async () => {
    const answer = await server.call(`/v3/chats?${query}`)
    const body = (await answer.json()) as { chats: { id: string }[]; next_cursor: string | null }
    assert.equal(answer.status, 200)
    assert.deepEqual(Object.keys(body), ['chats', 'next_cursor'])
    assert.deepEqual(names(body.chats), expected)
    assert.equal(body.next_cursor === null, query !== 'limit=2')
  })
}

test('a listed chat is the chat as it is retrieved', async () => {
  const { chats: listed } = await client.chats.listChats({ limit: 1 })
  const [first] = listed
  assert.ok(first)
  assert.deepEqual(first, await client.chats.retrieve(first.id))
})

test('the SDK walks through all pages, and no page is empty or shown twice', async () => {
  for (const limit of [1, 2, 5]) {
    const found: { id: string }[] = []
    for await (const chat of client.chats.listChats({ limit })) found.push(chat)
    assert.deepEqual(names(found), ['A on 2', 'D', 'ABC', 'AB', 'A'])
    let pages = 0
    for await (const page of (await client.chats.listChats({ limit, from: LINES[0] })).iterPages()) {
      assert.ok(page.chats.length > 0)
      pages++
    }
    assert.equal(pages, Math.ceil(4 / limit))
  }
})

for (const [query, code, message] of [
  ['limit=0', 1005, /limit/],
  ['limit=101', 1005, /limit/],
  ['limit=-1', 1005, /limit/],
  ['limit=1.5', 1005, /limit/],
  ['limit=ten', 1005, /limit/],
  ['limit=', 1005, /limit/],
  ['limit=1e1', 1005, /limit/],
  ['limit=9007199254740993', 1005, /limit/],
  ['limit=1&limit=2', 1005, /limit must be given once/],
  ['cursor=', 1005, /cursor/],
  ['cursor=20', 1005, /cursor/],
  ['cursor=%00', 1005, /cursor/],
  [`cursor=${btoa('1.x')}`, 1005, /cursor/],
  [`cursor=${btoa("1.' or 1=1 --")}`, 1005, /cursor/],
  [`cursor=${btoa('99999999999999999999.00000000-0000-4000-8000-000000000000')}`, 1005, /cursor/],
  ['cursor=a&cursor=b', 1005, /cursor must be given once/],
  ['from=12025550110', 1002, /from/],
  ['from=', 1002, /from/],
  ['to=nobody', 1002, /to/],
  ['to=', 1002, /to/],
  [`to=${enc(A)},`, 1002, /to/],
  [`to=${Array(32).fill(enc(A)).join(',')}`, 1005, /to/],
] as const) {
  test(`chats?${query.slice(0, 60)} is refused with ${code}`, async () => {
    await assertRefused(server.call(`/v3/chats?${query}`), { status: 400, code, message })
  })
}

test('activity moves a chat to the top, and only then', async () => {
  const { chats: before } = await client.chats.listChats()
  const oldest = before.at(-1)
  assert.ok(oldest)
  await client.chats.messages.send(oldest.id, { message: { parts: [text('Still there?')] } })
  const { chats: now } = await client.chats.listChats()
  assert.deepEqual(names(now), ['A', 'A on 2', 'D', 'ABC', 'AB'])
  assert.ok(Date.parse(now[0]?.updated_at ?? '') > Date.parse(oldest.updated_at))
  assert.equal(now[0]?.created_at, oldest.created_at)
})
