/** Contract 3.2: media by direct URL, downloaded before the answer. All or nothing. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type LinqAPIV3 from '@linqapp/sdk'
import { acceptedFiles, exeLike, jpeg, png, svg } from '../fixtures/media/files.ts'
import { assertRefused } from '../support/answers.ts'
import { openMediaOrigin } from '../support/media-origin.ts'
import { startServer } from '../support/satchel.ts'
import { keptBy, lineOf, openChat, postJson, text } from '../support/scene.ts'

const TEN_MB = 10 * 1024 * 1024
const origin = await openMediaOrigin()
const server = await startServer({ env: origin.env })
after(async () => {
  await server[Symbol.asyncDispose]()
  await origin[Symbol.asyncDispose]()
})
const client = server.client()
const chat = await openChat(server, '+14155550100')
const media = (url: string) => ({ type: 'media', url })
const send = (...parts: unknown[]) => postJson(server, `/v3/chats/${chat}/messages`, { message: { parts } })
const padded = (file: Buffer, size: number) => Buffer.concat([file, Buffer.alloc(size - file.length)])
const good = origin.serve('/good.png', { body: png() })

async function sentParts(answer: Response) {
  const body = (await answer.json()) as LinqAPIV3.Chats.MessageSendResponse
  assert.equal(answer.status, 202, JSON.stringify(body))
  return body.message.parts as LinqAPIV3.MediaPartResponse[]
}

test('a file by URL becomes an attachment of its own, with every send', async () => {
  const before = await keptBy(server)
  const [first] = await sentParts(await send(media(good)))
  const [second] = await sentParts(await send(media(good)))
  assert.ok(first && second)
  assert.notEqual(first.id, second.id)
  const found = await client.attachments.retrieve(first.id)
  const { created_at } = found
  const file = { id: first.id, filename: 'good.png', size_bytes: png().length }
  assert.deepEqual(first, { type: 'media', ...file, url: found.download_url, mime_type: 'image/png', reactions: [] })
  assert.deepEqual(found, {
    ...file,
    content_type: 'image/png',
    status: 'complete',
    created_at,
    download_url: first.url,
  })
  assert.ok(first.url.startsWith(`${server.cdn}/attachments/partners/`))
  assert.deepEqual(Buffer.from(await (await fetch(first.url)).arrayBuffer()), png())
  const now = await keptBy(server)
  assert.deepEqual([now.attachments, now.files.length], [before.attachments + 2, before.files.length + 2])
  assert.equal((await send({ type: 'media', attachment_id: first.id })).status, 202)
})

test('a chat may begin with a file by URL', async () => {
  const message = { parts: [text('Hello'), { type: 'media' as const, url: good }] }
  const made = await client.chats.create({ from: lineOf(server), to: ['+14155550101'], message })
  assert.deepEqual(
    made.chat.message.parts.map(({ type }) => type),
    ['text', 'media'],
  )
})

test('every accepted format is taken by its URL', async () => {
  const files = Object.entries(acceptedFiles())
  for (const [name, body] of files) origin.serve(`/all/${name}`, { body })
  for (const half of [files.slice(0, 30), files.slice(30)]) {
    const parts = await sentParts(await send(...half.map(([name]) => media(origin.url(`/all/${name}`)))))
    assert.deepEqual(
      parts.map(({ filename, size_bytes }) => [filename, size_bytes]),
      half.map(([n, f]) => [n, f.length]),
    )
  }
})

for (const [path, served, filename, type] of [
  ['/a/b/photo.jpg?size=large&x=/y.pdf#top', {}, 'photo.jpg', 'image/jpeg'],
  ['/photo', {}, 'photo', 'image/jpeg'],
  ['/', {}, 'attachment.jpg', 'image/jpeg'],
  ['/folder/', {}, 'attachment.jpg', 'image/jpeg'],
  ['/r%C3%A4d%20sky.jpeg', {}, 'räd sky.jpeg', 'image/jpeg'],
  ['/%F0%9F%8C%8D.jpg', {}, '🌍.jpg', 'image/jpeg'],
  ['/%2e%2e%2f..%2fetc%2fpasswd', {}, 'passwd', 'image/jpeg'],
  ['/%00%0d%0a.jpg', {}, 'attachment.jpg', 'image/jpeg'],
  ['/%zz.jpg', {}, 'attachment.jpg', 'image/jpeg'],
  ['/download.php', {}, 'download.php', 'image/jpeg'],
  ['/lying-header.jpg', { headers: { 'content-type': 'application/pdf' } }, 'lying-header.jpg', 'image/jpeg'],
  ['/named', { headers: { 'content-disposition': 'attachment; filename="x.exe"' } }, 'named', 'image/jpeg'],
  ['/created', { status: 201 }, 'created', 'image/jpeg'],
  ['/list', { body: 'a,b\n1,2\n', headers: { 'content-type': 'text/csv' } }, 'list', 'text/csv'],
] as const) {
  test(`a file at ${path} is called ${filename} and is ${type}`, async () => {
    const url = origin.serve(path.split('#', 1)[0] ?? '', { body: jpeg(), ...served })
    const [part] = await sentParts(await send(media(url)))
    assert.deepEqual([part?.filename, part?.mime_type], [filename, type])
    assert.equal((await fetch(part?.url ?? '')).status, 200)
  })
}

test('exactly 10 MB are taken, announced or not', async () => {
  const body = padded(png(), TEN_MB)
  origin.serve('/exact.png', { body })
  origin.serve('/exact-chunked.png', { body, headers: { 'transfer-encoding': 'chunked' } })
  const parts = await sentParts(await send(media(origin.url('/exact.png')), media(origin.url('/exact-chunked.png'))))
  assert.deepEqual(
    parts.map(({ size_bytes }) => size_bytes),
    [TEN_MB, TEN_MB],
  )
})

test('several files are downloaded at the same time', async () => {
  const urls = Array.from({ length: 8 }, (_, index) =>
    origin.serve(`/together/${index}.png`, { body: png(), together: 8 }),
  )
  const parts = await sentParts(await send(...urls.map(media)))
  assert.deepEqual(
    parts.map(({ filename }) => filename),
    urls.map((_, index) => `${index}.png`),
  )
})

test('forty files by URL are taken, forty-one are not, and then none is asked for', async () => {
  await sentParts(await send(...Array(40).fill(media(good))))
  const asked = origin.asked.length
  const call = send(...Array(41).fill(media(good)))
  await assertRefused(call, { status: 400, code: 1004, message: /message\.parts.*40/ })
  assert.equal(origin.asked.length, asked)
})

test('redirects are followed, five at most, and the name stays the one that was given', async () => {
  origin.serve('/hop/1', { status: 302, headers: { location: '/good.png' } })
  for (let n = 2; n <= 6; n++) origin.serve(`/hop/${n}`, { status: 307, headers: { location: `/hop/${n - 1}` } })
  const [part] = await sentParts(await send(media(origin.url('/hop/5'))))
  assert.deepEqual([part?.filename, part?.mime_type], ['5', 'image/png'])
  await assertRefused(send(media(origin.url('/hop/6'))), {
    status: 500,
    code: 5002,
    message: /message\.parts\[0\]\.url/,
  })
})

const redirect = (location: string) => {
  const path = `/to/${encodeURIComponent(location)}`
  return origin.serve(path, { status: 302, headers: { location } })
}
const refusals: [what: string, url: string, status: number, code: number, names?: RegExp][] = [
  ['that is not https', 'http://example.com/a.png', 400, 1005, /https/],
  ['of plain http at the allowed host', good.replace('https', 'http'), 400, 1005, /https/],
  ['of FTP', 'ftp://example.com/a.png', 400, 1005, /https/],
  ['of a local file', 'file:///etc/passwd', 400, 1005, /https/],
  ['of data', 'data:image/png;base64,iVBORw0KGgo=', 400, 1005, /https/],
  ['that is empty', '', 400, 1005],
  ['that is no URL', 'example.com/a.png', 400, 1005],
  ['with a password', 'https://user:secret@example.com/a.png', 400, 1005, /password/],
  ['of 127.0.0.1', 'https://127.0.0.1/a.png', 400, 1005, /public/],
  ['of the allowed port by another name', good.replace('localhost', '127.0.0.1'), 400, 1005, /public/],
  ['of this machine by name', 'https://localhost:1/a.png', 400, 1005, /public/],
  ['of 127.1', 'https://127.1/a.png', 400, 1005, /public/],
  ['of a decimal address', 'https://2130706433/a.png', 400, 1005, /public/],
  ['of ::1', 'https://[::1]/a.png', 400, 1005, /public/],
  ['of IPv4 in IPv6', 'https://[::ffff:10.0.0.1]/a.png', 400, 1005, /public/],
  ['of 0.0.0.0', 'https://0.0.0.0/a.png', 400, 1005, /public/],
  ['of a private network', 'https://10.1.2.3/a.png', 400, 1005, /public/],
  ['of cloud metadata', 'https://169.254.169.254/latest/meta-data/', 400, 1005, /public/],
  ['of our own API', server.api.replace('http', 'https'), 400, 1005, /public/],
  ['that leads to a private address', redirect('https://192.168.0.1/a.png'), 400, 1005, /public/],
  ['that leads to this machine', redirect('https://127.0.0.1:1/a.png'), 400, 1005, /public/],
  ['that leads to plain http', redirect('http://example.com/a.png'), 500, 5002],
  ['that leads nowhere', redirect(''), 500, 5002],
  ['that leads to itself', origin.serve('/loop', { status: 302, headers: { location: '/loop' } }), 500, 5002],
  ['that is not found', origin.url('/missing.png'), 500, 5002, /404/],
  ['of a broken host', origin.serve('/503.png', { status: 503, body: 'secret' }), 500, 5002, /503/],
  ['of a part of a file', origin.serve('/206.png', { status: 206, body: png() }), 500, 5002],
  ['of an empty file', origin.serve('/empty.png', { body: '' }), 400, 5004, /empty/],
  ['of nothing at all', origin.serve('/204.png', { status: 204 }), 500, 5002],
  ['of an unknown host', 'https://nowhere.invalid/a.png', 500, 5002],
  ['of more than 10 MB', origin.serve('/over.png', { body: padded(png(), TEN_MB + 1) }), 400, 5005],
  [
    'of more than 10 MB, unannounced',
    origin.serve('/chunked.png', { body: padded(png(), TEN_MB + 1), headers: { 'transfer-encoding': 'chunked' } }),
    400,
    5005,
  ],
  ['of an SVG', origin.serve('/vector.svg', { body: svg }), 400, 5004, /SVG/],
  ['of an SVG called PNG', origin.serve('/vector.png', { body: svg }), 400, 5004, /SVG/],
  ['of a program', origin.serve('/photo.jpg', { body: exeLike }), 400, 5004],
  ['of unknown bytes', origin.serve('/data', { body: Buffer.from('\x01\x02\x03\x04'.repeat(99)) }), 400, 5004],
  ['of a picture called .exe', origin.serve('/picture.exe', { body: png() }), 400, 5004],
  ['of a JPEG called PNG', origin.serve('/jpeg.png', { body: jpeg() }), 400, 5006, /JPEG/],
  ['of a PNG called PDF', origin.serve('/png.pdf', { body: png() }), 400, 5006, /PNG/],
]
for (const [what, url, status, code, names] of refusals) {
  test(`a URL ${what} is refused with ${code}; nothing is sent and nothing is kept`, async () => {
    const before = await keptBy(server)
    const answer = await send(media(good), text('and'), media(url), media(good))
    assert.equal(answer.headers.get('x-should-retry'), code === 5002 ? 'false' : null)
    const { error } = await assertRefused(answer, { status, code })
    assert.match(error.message, /^message\.parts\[2\]\.url/)
    if (names) assert.match(error.message, names)
    assert.doesNotMatch(error.message, /secret|explanation|127\.0\.0\.1|192\.168/)
    assert.deepEqual(await keptBy(server), before)
  })
}

test('the SDK does not try a bad URL again', async () => {
  const url = origin.url('/never.png')
  const call = server
    .client({ maxRetries: 2 })
    .chats.messages.send(chat, { message: { parts: [{ type: 'media', url }] } })
  await assert.rejects(call, { status: 500 })
  assert.equal(origin.asked.filter((path) => path === '/never.png').length, 1)
})

test('what is cheap to refuse is refused before anything is downloaded', async () => {
  const asked = origin.asked.length
  const missing = { type: 'media', attachment_id: '00000000-0000-4000-8000-000000000000' }
  await assertRefused(send(media(good), missing), { status: 404, code: 2003 })
  await assertRefused(send(media(good), text('a'), text('b')), { status: 400, code: 1004 })
  const foreign = { from: '+12025550199', to: ['+14155550102'], message: { parts: [media(good)] } }
  await assertRefused(postJson(server, '/v3/chats', foreign), { status: 403, code: 2006 })
  assert.equal(origin.asked.length, asked)
})
