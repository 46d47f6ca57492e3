/** What is not HTTP, or hardly: answered in the words of the API where anybody could read it, and never fatal. */
import assert from 'node:assert/strict'
import { after, afterEach, test } from 'node:test'
import { assertNothingLeaked } from '../support/answers.ts'
import { startServer } from '../support/satchel.ts'
import { dial } from '../support/wire.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
afterEach(async () => {
  assert.equal((await fetch(`${server.api}/healthz`)).status, 200)
  assert.equal(/"level":"(error|fatal)"/.exec(server.log()), null)
})
const MB = 1024 * 1024

const greeting = `Host: x\r\nAuthorization: Bearer ${server.apiKey}\r\n`
const wires: [what: string, request: string, status: number][] = [
  ['no HTTP', 'SSH-2.0-OpenSSH_9.9\r\n\r\n', 400],
  ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400],
  ['another version', `GET /v3/chats HTTP/9.9\r\n${greeting}\r\n`, 400],
  ['an unknown method', `BREW /v3/chats HTTP/1.1\r\n${greeting}\r\n`, 400],
  ['two lengths', `POST /v3/chats HTTP/1.1\r\n${greeting}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, 400],
  [
    'a length and chunks',
    `POST /v3/chats HTTP/1.1\r\n${greeting}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    400,
  ],
  ['a length that is none', `POST /v3/chats HTTP/1.1\r\n${greeting}Content-Length: -1\r\n\r\n`, 400],
  ['chunks that are none', `POST /v3/attachments HTTP/1.1\r\n${greeting}Transfer-Encoding: chunked\r\n\r\nzz\r\n`, 400],
  ['a header with NUL', `GET /v3/chats HTTP/1.1\r\n${greeting}X: a\0b\r\n\r\n`, 400],
  ['a header folded', `GET /v3/chats HTTP/1.1\r\n${greeting}X: a\r\n b\r\nBad Header: x\r\n\r\n`, 400],
  ['headers of 20 KB', `GET /v3/chats HTTP/1.1\r\n${greeting}X: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
  ['a URL of 20 KB', `GET /v3/chats?${'x'.repeat(20_000)} HTTP/1.1\r\n${greeting}\r\n`, 431],
]
for (const [what, request, status] of wires) {
  test(`on the wire, ${what} is answered with ${status} in the words of the API`, async () => {
    using wire = await dial(server.api)
    await wire.write(request)
    const reply = await wire.reply()
    const body = reply.body.toString()
    assert.equal(reply.status, status, body)
    assert.match(reply.headers['x-trace-id'] ?? '', /^[0-9a-f]{32}$/)
    assert.deepEqual(Object.keys(JSON.parse(body)), ['success', 'error', 'trace_id'])
    assertNothingLeaked(body)
  })
}

test('10 MB of headers end the connection and nothing else', async () => {
  using wire = await dial(server.api)
  await wire.write(`GET /v3/chats HTTP/1.1\r\n${greeting}`)
  const line = `X-Header: ${'x'.repeat(8000)}\r\n`
  for (let sent = 0; sent < 10 * MB && (await wire.write(line)); sent += line.length);
  await wire.closed
})
