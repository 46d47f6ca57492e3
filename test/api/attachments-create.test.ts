/** Contract 1.1: the first step of a pre-upload, with its refusals and their order. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { assertRefused } from '../support/answers.ts'
import { startServer } from '../support/satchel.ts'
import { keptBy, postJson } from '../support/scene.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const good = { filename: 'photo.jpg', content_type: 'image/jpeg', size_bytes: 245_760 } as const
const create = (body: unknown) => postJson(server, '/v3/attachments', body)

test('create answers with exactly the six fields, in their order', async () => {
  const before = Date.now()
  const answer = await create(good)
  const body = await answer.text()
  const made = JSON.parse(body)
  assert.equal(answer.status, 200)
  assert.match(made.attachment_id, UUID)
  const { partnerId } = /^\/attachments\/partners\/(?<partnerId>[^/]+)\//.exec(new URL(made.download_url).pathname)
    ?.groups ?? { partnerId: '' }
  assert.match(partnerId ?? '', UUID)
  assert.equal(
    body,
    JSON.stringify({
      attachment_id: made.attachment_id,
      upload_url: made.upload_url,
      download_url: `${server.cdn}/attachments/partners/${partnerId}/${made.attachment_id}/photo.jpg`,
      http_method: 'PUT',
      expires_at: made.expires_at,
      required_headers: { 'Content-Type': 'image/jpeg', 'Content-Length': '245760' },
    }),
  )
  assert.match(made.upload_url, new RegExp(`^${server.cdn}/uploads/${made.attachment_id}\\?.*Signature=[0-9a-f]{64}`))
  assert.match(made.expires_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  const minutes = (Date.parse(made.expires_at) - before) / 60_000
  assert.ok(minutes > 14.9 && minutes <= 15.1, `${minutes} minutes`)
})

test('every create makes another attachment', async () => {
  const made = await Promise.all(Array.from({ length: 8 }, () => client.attachments.create(good)))
  assert.equal(new Set(made.map((one) => one.attachment_id)).size, 8)
})

/** Contract 2.2: what is reported first, then what else may be declared for it. */
const TYPES = `
  image/jpeg image/jpg
  image/png
  image/gif
  image/heic
  image/heif
  image/tiff
  image/bmp image/x-ms-bmp
  video/mp4
  video/quicktime
  video/x-m4v
  video/mpeg video/mpeg2
  video/3gpp
  audio/x-m4a audio/mp4 audio/m4a
  audio/aac audio/x-aac
  audio/mpeg audio/mp3
  audio/x-wav audio/wav
  audio/x-aiff audio/aiff
  audio/x-caf
  audio/amr
  application/pdf
  text/plain
  text/rtf application/rtf
  text/csv
  text/html
  application/zip application/x-zip-compressed
  application/epub+zip
  application/msword
  application/vnd.openxmlformats-officedocument.wordprocessingml.document
  application/vnd.ms-excel
  application/vnd.openxmlformats-officedocument.spreadsheetml.sheet
  application/vnd.ms-powerpoint
  application/vnd.openxmlformats-officedocument.presentationml.presentation
  application/x-iwork-pages-sffpages application/vnd.apple.pages
  application/x-iwork-numbers-sffnumbers application/vnd.apple.numbers
  application/x-iwork-keynote-sffkey application/vnd.apple.keynote
  text/vcard text/x-vcard
  text/calendar`

for (const line of TYPES.trim().split('\n')) {
  const names = line.trim().split(' ')
  const [reported = ''] = names
  test(`${names.join(', ')} may be declared, with any case and parameters, and ${reported} is reported`, async () => {
    for (const declared of names.flatMap((name) => [name, name.toUpperCase(), `${name}; charset=utf-8`, `${name};x`])) {
      const answer = await create({ ...good, filename: 'file', content_type: declared })
      assert.equal(answer.status, 200, declared)
      const made = (await answer.json()) as { attachment_id: string; required_headers: Record<string, string> }
      assert.deepEqual(made.required_headers, { 'Content-Type': declared, 'Content-Length': '245760' })
      assert.equal((await client.attachments.retrieve(made.attachment_id)).content_type, reported)
    }
  })
}

const refusals: [what: string, body: unknown, status: number, code: number, message: RegExp][] = [
  ['without anything', {}, 400, 1001, /filename/],
  ['without a filename', { ...good, filename: undefined }, 400, 1001, /filename/],
  ['without a content_type', { ...good, content_type: undefined }, 400, 1001, /content_type/],
  ['without size_bytes', { ...good, size_bytes: undefined }, 400, 1001, /size_bytes/],
  ['with null for filename', { ...good, filename: null }, 400, 1005, /filename/],
  ['with a number for filename', { ...good, filename: 5 }, 400, 1005, /filename/],
  ['with a list for content_type', { ...good, content_type: ['image/jpeg'] }, 400, 1005, /content_type/],
  ['with size_bytes "1"', { ...good, size_bytes: '1' }, 400, 1005, /size_bytes/],
  ['with size_bytes 1.5', { ...good, size_bytes: 1.5 }, 400, 1005, /size_bytes/],
  ['with size_bytes true', { ...good, size_bytes: true }, 400, 1005, /size_bytes/],
  ['with size_bytes 0', { ...good, size_bytes: 0 }, 400, 1005, /size_bytes/],
  ['with size_bytes -1', { ...good, size_bytes: -1 }, 400, 1005, /size_bytes/],
  ['of one byte over 100 MB', { ...good, size_bytes: 104_857_601 }, 400, 5005, /size_bytes/],
  ['of 2^53 bytes', { ...good, size_bytes: 2 ** 53 }, 400, 5005, /size_bytes/],
  ['of 1e300 bytes', { ...good, size_bytes: 1e300 }, 400, 5005, /size_bytes/],
  ['with an empty content_type', { ...good, content_type: '' }, 400, 5004, /content_type/],
  ['of WebP', { ...good, content_type: 'image/webp' }, 400, 5004, /image\/webp/],
  ['of SVG', { ...good, content_type: 'image/svg+xml' }, 400, 5004, /image\/svg\+xml/],
  ['of FLAC', { ...good, content_type: 'audio/flac' }, 400, 5004, /audio\/flac/],
  ['of Ogg', { ...good, content_type: 'audio/ogg' }, 400, 5004, /audio\/ogg/],
  ['of a Windows program', { ...good, content_type: 'application/x-msdownload' }, 400, 5004, /x-msdownload/],
  ['of bytes', { ...good, content_type: 'application/octet-stream' }, 400, 5004, /octet-stream/],
  ['of JSON', { ...good, content_type: 'application/json' }, 400, 5004, /application\/json/],
  ['of a type with a line break', { ...good, content_type: 'image/jpeg\r\nX-Evil: 1' }, 400, 5004, /content_type/],
  ['of a type with an accent', { ...good, content_type: 'image/jpeg; name=é' }, 400, 5004, /content_type/],
  ['of a type of 10,000 letters', { ...good, content_type: `image/${'j'.repeat(10_000)}` }, 400, 1005, /content_type/],
]
for (const [what, body, status, code, message] of refusals) {
  test(`create ${what} is refused with ${code}`, async () => {
    const before = await keptBy(server)
    await assertRefused(create(body), { status, code, message })
    assert.deepEqual(await keptBy(server), before)
  })
}

test('the checks come in order: presence, types, file type, size', async () => {
  await assertRefused(create({ content_type: 5, size_bytes: 0 }), { status: 400, code: 1001 })
  await assertRefused(create({ filename: 'a', content_type: 'image/webp', size_bytes: '1' }), {
    status: 400,
    code: 1005,
  })
  await assertRefused(create({ ...good, content_type: 'image/webp', size_bytes: 0 }), { status: 400, code: 5004 })
  await assertRefused(create({ ...good, filename: 'a.exe', size_bytes: 1e12 }), { status: 400, code: 5004 })
})

test('exactly 100 MB and a single byte may be declared', async () => {
  for (const size_bytes of [104_857_600, 1]) {
    const made = await client.attachments.create({ ...good, size_bytes })
    assert.equal(made.required_headers['Content-Length'], String(size_bytes))
    assert.equal((await client.attachments.retrieve(made.attachment_id)).size_bytes, size_bytes)
  }
})

test('1.0 and 1e3 are whole numbers', async () => {
  for (const [digits, size] of [
    ['1.0', 1],
    ['1e3', 1000],
  ] as const) {
    const body = JSON.stringify(good).replace('245760', digits)
    const answer = await server.call('/v3/attachments', { method: 'POST', body })
    const made = (await answer.json()) as { required_headers: Record<string, string> }
    assert.deepEqual([answer.status, made.required_headers['Content-Length']], [200, String(size)])
  }
})
