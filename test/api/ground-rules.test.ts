/** Contract part 0: who may call, what every answer looks like, and what a request may look like. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import LinqAPIV3 from '@linqapp/sdk'
import { assertNothingLeaked, assertRefused, assertSdkRefused } from '../support/answers.ts'
import { startServer } from '../support/satchel.ts'
import { openChat, postJson, text } from '../support/scene.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const base = `${server.api}/api/partner/v3`
const NOWHERE = '00000000-0000-4000-8000-000000000000'
const declared = { filename: 'a.jpg', content_type: 'image/jpeg', size_bytes: 1 } as const

for (const [what, authorization] of [
  ['no Authorization header', undefined],
  ['an empty header', ''],
  ['the word Bearer alone', 'Bearer'],
  ['Bearer and a blank', 'Bearer '],
  ['a key without Bearer', server.apiKey],
  ['another scheme', `Basic ${btoa(`x:${server.apiKey}`)}`],
  ['two keys', `Bearer ${server.apiKey} ${server.apiKey}`],
  ['a key and a comma', `Bearer ${server.apiKey},`],
  ['a key in quotes', `Bearer "${server.apiKey}"`],
  ['an unknown key', 'Bearer satchel_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'],
  ['a key that is nearly right', `Bearer ${server.apiKey.slice(0, -1)}`],
  ['a key in other letters', `Bearer ${server.apiKey.toUpperCase()}`],
  ['a key of 8 KB', `Bearer ${'k'.repeat(8192)}`],
  ['SQL for a key', `Bearer '--`],
] as const) {
  test(`a call with ${what} is unauthorized`, async () => {
    const headers = authorization === undefined ? {} : { authorization }
    await assertRefused(fetch(`${base}/phone_numbers`, { headers }), { status: 401, code: 2004 })
  })
}

test('Bearer may be written in any case', async () => {
  for (const scheme of ['Bearer', 'bearer', 'BEARER']) {
    const answer = await fetch(`${base}/phone_numbers`, { headers: { authorization: `${scheme} ${server.apiKey}` } })
    assert.equal(answer.status, 200, scheme)
  }
})

test('authentication comes before every other check', async () => {
  const init = { apiKey: 'wrong', method: 'POST', body: '{' }
  await assertRefused(server.call('/v3/attachments', init), { status: 401, code: 2004 })
  await assertRefused(server.call('/v3/attachments/nonsense', { apiKey: 'wrong' }), { status: 401, code: 2004 })
  await assertRefused(server.call('/v3/nowhere', { apiKey: 'wrong' }), { status: 401, code: 2004 })
  await assertRefused(server.call('/v3/chats', { apiKey: 'wrong', method: 'PATCH' }), { status: 401, code: 2004 })
  await assertSdkRefused(server.client({ apiKey: 'wrong' }).phoneNumbers.list(), { status: 401, code: 2004 })
})

test('a refusal is the whole envelope, in its order, and nothing else', async () => {
  const answer = await server.call(`/v3/attachments/${NOWHERE}`)
  const trace_id = answer.headers.get('x-trace-id')
  assert.equal(answer.status, 404)
  assert.equal(answer.headers.get('content-type'), 'application/json; charset=utf-8')
  assert.equal(
    await answer.text(),
    '{"success":false,"error":{"status":404,"code":2003,"message":"Attachment not found",' +
      `"doc_url":"https://docs.linqapp.com/error/codes/2xxx/2003/"},"trace_id":"${trace_id}"}`,
  )
})

test('every answer has a trace id of its own', async () => {
  const paths = ['/v3/phone_numbers', '/v3/chats', '/v3/nowhere', '/nowhere', '/v3/attachments/x', '/v3/%zz']
  const answers = await Promise.all([...paths, ...paths].map((path) => server.call(path)))
  const ids = answers.map(({ headers }) => headers.get('x-trace-id') ?? '')
  for (const id of ids) assert.match(id, /^[0-9a-f]{32}$/)
  assert.equal(new Set(ids).size, ids.length)
})

test('what a client says about tracing is ignored', async () => {
  const mine = '0af7651916cd43dd8448eb211c80319c'
  const headers = { traceparent: `00-${mine}-b7ad6b7169203331-01`, 'x-trace-id': mine, 'x-request-id': mine }
  assert.notEqual((await server.call('/v3/chats', { headers })).headers.get('x-trace-id'), mine)
})

test('both base paths answer alike', async () => {
  for (const path of ['/api/partner/v3/phone_numbers', '/v3/phone_numbers', '/v3/phone_numbers/']) {
    const answer = await fetch(server.api + path, { headers: { authorization: `Bearer ${server.apiKey}` } })
    assert.equal(answer.status, 200, path)
    const { phone_numbers } = (await answer.json()) as { phone_numbers: { phone_number: string }[] }
    assert.deepEqual(
      phone_numbers.map((line) => line.phone_number),
      server.phoneNumbers,
    )
  }
  const bare = new LinqAPIV3({ baseURL: `${server.api}/`, apiKey: server.apiKey })
  assert.equal((await bare.attachments.create(declared)).http_method, 'PUT')
})

test('an unknown path is NotFoundError in the SDK, inside the API and outside', async () => {
  const expected = { status: 404, code: 2001, message: /^Resource not found$/ }
  await assert.rejects(client.get('/v3/nowhere'), LinqAPIV3.NotFoundError)
  await assertSdkRefused(client.get('/v3/nowhere'), expected)
  for (const path of ['/', '/api', '/api/partner', '/api/partner/v2/chats', '/v3', '/v3/attachmentss', '/.env'])
    await assertRefused(fetch(server.api + path, { headers: { authorization: `Bearer ${server.apiKey}` } }), expected)
})

for (const [method, path, allow] of [
  ['GET', '/v3/attachments', 'POST'],
  ['PATCH', '/v3/attachments', 'POST'],
  ['PUT', `/v3/attachments/${NOWHERE}`, 'DELETE, GET, HEAD'],
  ['POST', `/v3/messages/${NOWHERE}`, 'DELETE, GET, HEAD'],
  ['GET', `/v3/chats/${NOWHERE}/voicememo`, 'POST'],
  ['PUT', `/v3/chats/${NOWHERE}/messages`, 'GET, HEAD, POST'],
  ['DELETE', '/v3/phone_numbers', 'GET, HEAD'],
  ['OPTIONS', '/v3/chats', 'GET, HEAD, POST'],
  ['POST', '/healthz', 'GET, HEAD'],
] as const) {
  test(`${method} ${path.replace(NOWHERE, '{id}')} is refused with Allow: ${allow}`, async () => {
    const answer = await server.call(path.startsWith('/v3') ? path : `/../..${path}`, { method })
    assert.equal(answer.headers.get('allow'), allow)
    await assertRefused(answer, { status: 405, code: 1005, message: new RegExp(`^${method} `) })
  })
}

test('a DELETE may come with a JSON body, an empty one, or none', async () => {
  const bodies: RequestInit[] = [
    {},
    { headers: { 'content-type': 'application/json' } },
    { headers: { 'content-type': 'application/json' }, body: '' },
    { headers: { 'content-type': 'application/json' }, body: `{"chat_id":"${NOWHERE}"}` },
    { headers: { 'content-type': 'text/plain' }, body: '{"unknown":[1,null]}' },
  ]
  for (const init of bodies) {
    const { attachment_id } = await client.attachments.create(declared)
    const answer = await server.call(`/v3/attachments/${attachment_id}`, { method: 'DELETE', ...init })
    assert.deepEqual([answer.status, await answer.text()], [204, ''], JSON.stringify(init))
    assert.match(answer.headers.get('x-trace-id') ?? '', /^[0-9a-f]{32}$/)
    assert.equal(answer.headers.get('content-type'), null)
  }
})

test('a void call of the SDK gives null', async () => {
  const { attachment_id } = await client.attachments.create(declared)
  assert.equal(await client.attachments.delete(attachment_id), null)
})

test('a call that needs a body says so when there is none, in both client styles', async () => {
  for (const headers of [{ 'content-length': '0' }, { 'content-type': 'application/json' }]) {
    const init = { method: 'POST', headers, body: '' }
    await assertRefused(server.call('/v3/attachments', init), { status: 400, code: 1003 })
    await assertRefused(server.call('/v3/chats', init), { status: 400, code: 1003 })
    await assertRefused(server.call(`/v3/chats/${NOWHERE}/voicememo`, init), { status: 400, code: 1003 })
  }
})

for (const contentType of [
  'application/json',
  'application/json; charset=utf-8',
  'APPLICATION/JSON',
  'application/json; charset=latin1;;=',
  'application/vnd.api+json',
  'text/plain',
  'application/x-www-form-urlencoded',
  'multipart/form-data; boundary=x',
]) {
  test(`a JSON body counts as one when it is called ${contentType}`, async () => {
    assert.equal(
      (await postJson(server, '/v3/attachments', declared, { headers: { 'content-type': contentType } })).status,
      200,
    )
  })
}

test('a body without any Content-Type is JSON too', async () => {
  const body = new Blob([JSON.stringify(declared)])
  assert.equal((await server.call('/v3/attachments', { method: 'POST', body })).status, 200)
})

test('a Content-Type that is none is a bad body, not a fault of the server', async () => {
  for (const contentType of ['garbage', '/', ';', 'a/b/c', 'application/']) {
    const answer = postJson(server, '/v3/attachments', declared, { headers: { 'content-type': contentType } })
    await assertRefused(answer, { status: 400, code: 1003, message: /Content-Type/ })
  }
})

test('a path segment of 5,000 characters is a bad parameter', async () => {
  for (const path of ['/v3/attachments/', '/v3/chats/', '/v3/messages/'])
    await assertRefused(server.call(path + 'a'.repeat(5000)), { status: 400, code: 1005, message: /too long/ })
})

test('no Accept header leads to 406', async () => {
  for (const accept of ['*/*', 'application/json', 'application/geo+json', 'text/html', 'image/webp', 'x', '']) {
    assert.equal((await server.call('/v3/chats', { headers: { accept } })).status, 200, accept)
    assert.equal((await server.call(`/v3/messages/${NOWHERE}`, { headers: { accept } })).status, 404, accept)
  }
})

test('unknown fields and query parameters are ignored everywhere', async () => {
  const odd = {
    from: 5,
    nested: { deep: [null] },
    ['__proto__']: { polluted: 1 },
    toString: 'x',
    constructor: { prototype: 1 },
  }
  assert.equal((await postJson(server, '/v3/attachments?x=1&x=2', { ...declared, ...odd })).status, 200)
  const chat = await openChat(server, '+14155550100')
  const message = { ...odd, parts: [{ ...odd, ...text('Hi') }] }
  const answer = await postJson(server, `/v3/chats/${chat}/messages`, { ...odd, message, parts: 'nonsense' })
  assert.equal(answer.status, 202)
  assert.equal((await server.call(`/v3/chats/${chat}?expand=all`)).status, 200)
})

test('a body that begins with a byte-order mark is read', async () => {
  const body = `\ufeff${JSON.stringify(declared)}`
  assert.equal((await server.call('/v3/attachments', { method: 'POST', body })).status, 200)
})

test('health, readiness, metrics and documents need no key', async () => {
  for (const [path, type, content] of [
    ['/healthz', /^application\/json/, /^\{"status":"ok"\}$/],
    ['/readyz', /^application\/json/, /^\{"status":"ok","database":"ok","storage":"ok"\}$/],
    ['/metrics', /^text\/plain; version=0\.0\.4/, /^# HELP [\s\S]+^[a-z_]+(\{[^}]*\})? [0-9.e+-]+$/m],
    ['/openapi.json', /^application\/json/, /^\{"openapi":"3\.1\./],
    ['/docs', /^text\/html/, /<html/],
  ] as const) {
    const answer = await fetch(server.api + path)
    assert.equal(answer.status, 200, path)
    assert.match(answer.headers.get('content-type') ?? '', type)
    assert.match(answer.headers.get('x-trace-id') ?? '', /^[0-9a-f]{32}$/)
    const body = await answer.text()
    assert.match(body, content, path)
    if (path !== '/docs') assertNothingLeaked(body.replaceAll('"SELECT', ''))
  }
})
