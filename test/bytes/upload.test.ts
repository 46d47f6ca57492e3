/** The presigned PUT: what it takes, what it refuses and how, and that a refused body leaves nothing. */
import assert from 'node:assert/strict'
import { Agent, request } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import type LinqAPIV3 from '@linqapp/sdk'
import { jpeg, png } from '../fixtures/media/files.ts'
import { secretsOf } from '../support/database.ts'
import { packedIn } from '../support/packs.ts'
import { type Server, startServer } from '../support/satchel.ts'
import {
  type Created,
  createText,
  dial,
  download,
  filesIn,
  md5,
  put,
  type Reply,
  sha256,
  textOf,
  until,
  uploadText,
  type Wire,
} from '../support/wire.ts'

const MB = 1024 * 1024

let server: Server
let client: LinqAPIV3
before(async () => {
  server = await startServer()
  client = server.client()
})
after(() => server[Symbol.asyncDispose]())

const target = ({ upload_url }: Created) => {
  const { host, pathname, search } = new URL(upload_url)
  return { host, path: `${pathname}${search}` }
}

/** The head of the PUT with the headers that were asked for, and `headers` over them; '' leaves one out. */
async function begin(wire: Wire, created: Created, headers: Record<string, string> = {}): Promise<void> {
  const { host, path } = target(created)
  const all = Object.entries({ Host: host, ...created.required_headers, ...headers })
  await wire.head(`PUT ${path}`, Object.fromEntries(all.filter(([, value]) => value !== '')))
}

async function rawPut(created: Created, body: string | Uint8Array, headers: Record<string, string> = {}) {
  using wire = await dial(server.cdn)
  await begin(wire, created, headers)
  await wire.write(body)
  return await wire.reply()
}

const chunked = (bytes: Uint8Array, sizes = 1000) => {
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length; at += sizes) {
    const part = bytes.subarray(at, at + sizes)
    parts.push(Buffer.from(`${part.length.toString(16)}\r\n`), Buffer.from(part), Buffer.from('\r\n'))
  }
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')])
}
const CHUNKED = { 'Content-Length': '', 'Transfer-Encoding': 'chunked' }

type Refusal = { status: number; code: string; message?: RegExp }

/** The whole XML answer. */
function assertXml(reply: Reply, { status, code, message }: Refusal): void {
  const text = reply.body.toString()
  const [, found, said, requestId] =
    /^<\?xml version="1\.0" encoding="UTF-8"\?>\n<Error><Code>(\w+)<\/Code><Message>([^<>]+)<\/Message><RequestId>([0-9a-f]{32})<\/RequestId><\/Error>$/.exec(
      text,
    ) ?? []
  assert.deepEqual({ status: reply.status, code: found }, { status, code }, text)
  if (message) assert.match(said ?? '', message)
  assert.match(reply.headers['content-type'] ?? '', /^application\/xml(;|$)/)
  assert.equal(requestId, reply.headers['x-trace-id'])
  if (status !== 405) assert.equal(reply.headers['access-control-allow-origin'], '*')
}

async function assertRefused(response: Response | Promise<Response>, refusal: Refusal): Promise<void> {
  const answer = await response
  const { status, headers } = answer
  assertXml({ status, headers: Object.fromEntries(headers), body: Buffer.from(await answer.arrayBuffer()) }, refusal)
}

async function assertNothingKept(created: Created): Promise<void> {
  const attachment = await client.attachments.retrieve(created.attachment_id)
  assert.equal(attachment.status, 'pending')
  assert.equal((await fetch(created.download_url)).status, 404)
  await until('nothing is left in files/tmp', async () => (await filesIn(server.dataDir, 'files/tmp')).length === 0)
}

async function assertRepeatable(created: Created, bytes: Buffer): Promise<void> {
  assert.equal((await put(created, new Uint8Array(bytes))).status, 200)
  assert.deepEqual(await download(created.download_url), bytes)
}

describe('an upload as the SDK describes it', () => {
  test('answers 200 with the MD5 as its ETag, and the bytes are served under download_url', async () => {
    const bytes = jpeg()
    const created = await client.attachments.create({
      filename: 'photo.jpg',
      content_type: 'image/jpeg',
      size_bytes: bytes.length,
    })
    assert.equal(created.http_method, 'PUT')
    assert.deepEqual(created.required_headers, { 'Content-Type': 'image/jpeg', 'Content-Length': `${bytes.length}` })
    const response = await put(created, new Uint8Array(bytes))
    assert.equal(response.status, 200)
    assert.equal(await response.text(), '')
    assert.equal(response.headers.get('etag'), `"${md5(bytes)}"`)
    assert.match(response.headers.get('x-trace-id') ?? '', /^[0-9a-f]{32}$/)
    assert.deepEqual(await download(created.download_url), Buffer.from(bytes))
    const attachment = await client.attachments.retrieve(created.attachment_id)
    assert.equal(attachment.status, 'complete')
    assert.equal(attachment.download_url, created.download_url)
  })

  test('stores bodies of any size as they are, also around the one from which on they have a file each', async () => {
    for (const size of [1, 65_537, 131_071, 131_072, 131_073]) {
      const bytes = textOf(size)
      const created = await uploadText(client, bytes)
      assert.deepEqual(await download(created.download_url), bytes)
    }
  })

  test('ignores an Authorization header', async () => {
    const created = await createText(client, 5)
    assert.equal((await put(created, 'hello', { authorization: 'Bearer nobody' })).status, 200)
  })

  test('keeps the body as it is whatever its content type, however much it looks like something to parse', async () => {
    const bodies: [string, string, string][] = [
      ['a.csv', 'text/csv', 'name,n\r\n"a ""b""",1\r\n'],
      ['a.html', 'text/html', '<!doctype html><title>x</title><script>alert(1)</script>'],
      ['a.txt', 'text/plain', '{"json": true, "n": [1, 2, 3]}'],
      ['b.txt', 'text/plain; charset=utf-8', 'a=1&b=%20&c='],
      ['a.vcf', 'text/vcard', 'BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Ada\r\nEND:VCARD\r\n'],
      ['a.ics', 'text/calendar', 'BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n'],
      ['a.rtf', 'application/rtf', '{\\rtf1\\ansi hello}'],
    ]
    for (const [filename, content_type, text] of bodies) {
      const size_bytes = Buffer.byteLength(text)
      const declared = { filename, content_type, size_bytes } as LinqAPIV3.AttachmentCreateParams
      const created = await client.attachments.create(declared)
      assert.equal(created.required_headers['Content-Type'], content_type)
      const response = await put(created, text)
      assert.equal(response.status, 200, `${filename}: ${await response.text()}`)
      assert.equal((await download(created.download_url)).toString(), text, filename)
    }
  })

  test('takes a chunked body that has the right length', async () => {
    const bytes = textOf(5_000)
    const created = await createText(client, bytes.length)
    const reply = await rawPut(created, chunked(bytes), CHUNKED)
    assert.equal(reply.status, 200)
    assert.deepEqual(await download(created.download_url), bytes)
  })

  test('leaves the connection usable for the next upload', async () => {
    using wire = await dial(server.cdn)
    for (const seed of ['a', 'b', 'c']) {
      const bytes = textOf(100_000, seed)
      const created = await createText(client, bytes.length)
      await begin(wire, created)
      await wire.write(bytes)
      assert.equal((await wire.reply()).status, 200)
      assert.deepEqual(await download(created.download_url), bytes)
    }
  })
})

describe('required headers', () => {
  test('a Content-Type in another case and with blanks around it is the same', async () => {
    const created = await createText(client, 5)
    assert.equal((await rawPut(created, 'hello', { 'Content-Type': '  TEXT/Plain \t' })).status, 200)
  })

  test('a wrong or missing Content-Type is refused by name, as is what curl sends by itself', async () => {
    for (const type of ['image/jpeg', 'text/plain; charset=utf-8', 'application/x-www-form-urlencoded', '']) {
      const created = await createText(client, 5)
      const reply = await rawPut(created, 'hello', { 'Content-Type': type })
      assertXml(reply, { status: 403, code: 'SignatureDoesNotMatch', message: /Content-Type/ })
      await assertNothingKept(created)
      await assertRepeatable(created, Buffer.from('hello'))
    }
  })

  test('another Content-Length than the declared one is refused by name, before the body', async () => {
    for (const length of ['4', '6', '0', '104857601']) {
      const created = await createText(client, 5)
      const reply = await rawPut(created, '', { 'Content-Length': length })
      assertXml(reply, { status: 403, code: 'SignatureDoesNotMatch', message: /Content-Length/ })
      await assertNothingKept(created)
    }
  })

  test('neither a length nor chunks is refused by name', async () => {
    const created = await createText(client, 5)
    const reply = await rawPut(created, '', { 'Content-Length': '' })
    assertXml(reply, { status: 403, code: 'SignatureDoesNotMatch', message: /Content-Length/ })
  })
})

describe('a body that is not what was declared', () => {
  test('shorter in chunks: 400 IncompleteBody, nothing is kept, and it may be repeated', async () => {
    const bytes = textOf(5_000)
    const created = await createText(client, bytes.length)
    const reply = await rawPut(created, chunked(bytes.subarray(0, 4_999)), CHUNKED)
    assertXml(reply, { status: 400, code: 'IncompleteBody', message: /4999 bytes of 5000/ })
    await assertNothingKept(created)
    await assertRepeatable(created, bytes)
  })

  test('longer in chunks: 400 EntityTooLarge, nothing is kept, and it may be repeated', async () => {
    const bytes = textOf(5_000)
    const created = await createText(client, bytes.length)
    const reply = await rawPut(created, chunked(textOf(5_001)), CHUNKED)
    assertXml(reply, { status: 400, code: 'EntityTooLarge', message: /more than 5000 bytes/ })
    await assertNothingKept(created)
    await assertRepeatable(created, bytes)
  })

  test('much longer in chunks: the client gets to see the refusal', async () => {
    const created = await createText(client, 10)
    const body = new Blob([textOf(20 * MB)]).stream()
    const init = { method: 'PUT', headers: { 'Content-Type': 'text/plain' }, body, duplex: 'half' } as RequestInit
    await assertRefused(fetch(created.upload_url, init), { status: 400, code: 'EntityTooLarge' })
    await assertNothingKept(created)
  })

  test('cut off half way, with a length or in chunks: nothing is kept, and it may be repeated', async () => {
    const bytes = textOf(3 * MB)
    for (const headers of [{}, CHUNKED]) {
      const created = await createText(client, bytes.length)
      const known = await filesIn(server.dataDir, 'files')
      using wire = await dial(server.cdn)
      await begin(wire, created, headers)
      const half = bytes.subarray(0, bytes.length / 2)
      await wire.write(headers === CHUNKED ? chunked(half, 65_536).subarray(0, -5) : half)
      await until('the upload is under way', async () => (await filesIn(server.dataDir, 'files/tmp')).length === 1)
      wire.socket.destroy()
      await assertNothingKept(created)
      assert.deepEqual(await filesIn(server.dataDir, 'files'), known)
      await assertRepeatable(created, bytes)
    }
  })

  test('a small one cut off half way, with a length or in chunks: nothing is kept, and it may be repeated', async () => {
    const bytes = textOf(60_000)
    for (const headers of [{}, CHUNKED]) {
      const created = await createText(client, bytes.length)
      const known = await filesIn(server.dataDir, 'files')
      using wire = await dial(server.cdn)
      await begin(wire, created, headers)
      const half = bytes.subarray(0, bytes.length / 2)
      await wire.write(headers === CHUNKED ? chunked(half).subarray(0, -5) : half)
      await sleep(100)
      wire.socket.destroy()
      await assertNothingKept(created)
      assert.deepEqual(await filesIn(server.dataDir, 'files'), known)
      await assertRepeatable(created, bytes)
    }
  })

  test('a small file of another type is refused before any of it is written', async () => {
    const bytes = png()
    const created = await createText(client, bytes.length)
    const size = async () => (await packedIn(server.dataDir)).length
    const before = await size()
    assert.equal((await put(created, new Uint8Array(bytes))).status, 200)
    assert.equal((await client.attachments.retrieve(created.attachment_id)).status, 'failed')
    assert.equal(await size(), before)
  })

  test('content of another type is taken with 200 as S3 would, and the attachment has failed', async () => {
    const bytes = png()
    const created = await createText(client, bytes.length)
    const known = await filesIn(server.dataDir, 'files')
    assert.equal((await put(created, new Uint8Array(bytes))).status, 200)
    assert.equal((await client.attachments.retrieve(created.attachment_id)).status, 'failed')
    assert.equal((await fetch(created.download_url)).status, 404)
    assert.deepEqual(await filesIn(server.dataDir, 'files'), known)
    await assertRepeatable(created, textOf(bytes.length))
  })
})

describe('the signature', () => {
  test('every query parameter counts: changed, missing, doubled or added, the request is refused', async () => {
    const created = await createText(client, 5)
    const url = new URL(created.upload_url)
    const names = [...url.searchParams.keys()]
    assert.equal(names.length, 6)
    const changes: [string, string][] = [
      ['X-Amz-Algorithm', 'AWS4-HMAC-SHA512'],
      ['X-Amz-Credential', (url.searchParams.get('X-Amz-Credential') ?? '').replace('satchel', 'satchel2')],
      ['X-Amz-Credential', (url.searchParams.get('X-Amz-Credential') ?? '').replace('local', 'us-east-1')],
      ['X-Amz-Date', '20200101T000000Z'],
      ['X-Amz-Expires', '901'],
      ['X-Amz-Expires', '604800'],
      ['X-Amz-SignedHeaders', 'host'],
      ['X-Amz-SignedHeaders', 'content-length;host'],
      ['X-Amz-Signature', '0'.repeat(64)],
      ['X-Amz-Signature', (url.searchParams.get('X-Amz-Signature') ?? '').toUpperCase()],
      ['X-Amz-Signature', ''],
    ]
    for (const [name, value] of changes) {
      const changed = new URL(url)
      changed.searchParams.set(name, value)
      await assertRefused(put({ ...created, upload_url: changed.href }, 'hello'), {
        status: 403,
        code: 'SignatureDoesNotMatch',
      })
    }
    for (const name of names) {
      const missing = new URL(url)
      missing.searchParams.delete(name)
      await assertRefused(put({ ...created, upload_url: missing.href }, 'hello'), { status: 403, code: 'AccessDenied' })
      const doubled = `${url.href}&${name}=${encodeURIComponent(url.searchParams.get(name) ?? '')}`
      await assertRefused(put({ ...created, upload_url: doubled }, 'hello'), {
        status: 403,
        code: 'SignatureDoesNotMatch',
      })
    }
    const added = `${url.href}&x-id=PutObject`
    await assertRefused(put({ ...created, upload_url: added }, 'hello'), { status: 403, code: 'SignatureDoesNotMatch' })
    const bare = `${url.origin}${url.pathname}`
    await assertRefused(put({ ...created, upload_url: bare }, 'hello'), { status: 403, code: 'AccessDenied' })
    await assertNothingKept(created)
    assert.equal((await put(created, 'hello')).status, 200)
  })

  test('a signature is good for its own attachment alone', async () => {
    const [one, other] = [await createText(client, 5), await createText(client, 5)]
    const swapped = one.upload_url.replace(one.attachment_id, other.attachment_id)
    await assertRefused(put({ ...one, upload_url: swapped }, 'hello'), { status: 403, code: 'SignatureDoesNotMatch' })
    for (const id of ['0', 'not-a-uuid', one.attachment_id.toUpperCase(), '%00', '%E0%A4%A']) {
      const response = await put({ ...one, upload_url: one.upload_url.replace(one.attachment_id, id) }, 'hello')
      assert.ok([400, 403].includes(response.status), `${id}: ${response.status}`)
    }
    await assertNothingKept(one)
    await assertNothingKept(other)
  })

  test('another method is refused with 405 and Allow', async () => {
    const created = await createText(client, 5)
    for (const method of ['POST', 'PATCH', 'DELETE', 'GET']) {
      const response = await fetch(created.upload_url, { method, ...(method === 'GET' ? {} : { body: 'hello' }) })
      assert.equal(response.headers.get('allow'), 'PUT, OPTIONS')
      await assertRefused(response, { status: 405, code: 'MethodNotAllowed' })
    }
    const head = await fetch(created.upload_url, { method: 'HEAD' })
    assert.equal(head.status, 405)
    await assertNothingKept(created)
  })

  test('a URL of the AWS SDK with our key is accepted, and refused after its end', async () => {
    const { 'upload-signing-key': secretAccessKey = '' } = await secretsOf(server)
    const s3 = new S3Client({
      endpoint: server.cdn,
      region: 'local',
      forcePathStyle: true,
      credentials: { accessKeyId: 'satchel', secretAccessKey },
      requestChecksumCalculation: 'WHEN_REQUIRED',
    })
    const sign = async (created: Created, signingDate: Date, expiresIn: number) => {
      const put = new PutObjectCommand({
        Bucket: 'uploads',
        Key: created.attachment_id,
        ContentType: 'text/plain',
        ContentLength: 5,
      })
      const signableHeaders = new Set(['content-type', 'content-length', 'host'])
      const url = await getSignedUrl(s3, put, { signingDate, expiresIn, signableHeaders })
      return { ...created, upload_url: url }
    }
    const created = await createText(client, 5)
    const minutes = (n: number) => new Date(Date.now() + n * 60_000)
    await assertRefused(put(await sign(created, minutes(-16), 900), 'hello'), {
      status: 403,
      code: 'AccessDenied',
      message: /^Request has expired$/,
    })
    await assertNothingKept(created)
    const response = await put(await sign(created, minutes(0), 900), 'hello')
    assert.equal(response.status, 200, await response.text())
  })

  test('the secret itself shows nowhere in what callers get', async () => {
    const { 'upload-signing-key': secret = '' } = await secretsOf(server)
    assert.notEqual(secret, '')
    const created = await createText(client, 5)
    assert.ok(!JSON.stringify(created).includes(secret))
    assert.ok(!server.log().includes(secret))
  })
})

describe('an attachment that is not pending', () => {
  test('deleted: 404 NoSuchKey', async () => {
    const created = await createText(client, 5)
    await client.attachments.delete(created.attachment_id)
    await assertRefused(put(created, 'hello'), { status: 404, code: 'NoSuchKey' })
  })

  test('deleted during the upload: 404 NoSuchKey, and no bytes are kept', async () => {
    const bytes = textOf(MB)
    const created = await createText(client, bytes.length)
    const known = await filesIn(server.dataDir, 'files')
    using wire = await dial(server.cdn)
    await begin(wire, created)
    await wire.write(bytes.subarray(0, 1000))
    await until('the upload is under way', async () => (await filesIn(server.dataDir, 'files/tmp')).length === 1)
    await client.attachments.delete(created.attachment_id)
    await wire.write(bytes.subarray(1000))
    assertXml(await wire.reply(), { status: 404, code: 'NoSuchKey' })
    assert.deepEqual(await filesIn(server.dataDir, 'files'), known)
  })

  test('complete: the same bytes again answer 200 and the same ETag, other bytes 409, and nothing changes', async () => {
    const bytes = textOf(100_000)
    const created = await uploadText(client, bytes)
    const kept = await filesIn(server.dataDir, 'files')
    const again = await put(created, new Uint8Array(bytes))
    assert.equal(again.status, 200)
    assert.equal(again.headers.get('etag'), `"${md5(bytes)}"`)
    const other = textOf(100_000, 'other')
    await assertRefused(put(created, new Uint8Array(other)), { status: 409, code: 'InvalidObjectState' })
    const reply = await rawPut(created, chunked(bytes.subarray(1)), CHUNKED)
    assertXml(reply, { status: 400, code: 'IncompleteBody' })
    assertXml(await rawPut(created, chunked(textOf(100_001)), CHUNKED), { status: 400, code: 'EntityTooLarge' })
    assert.deepEqual(await download(created.download_url), bytes)
    assert.deepEqual(await filesIn(server.dataDir, 'files'), kept)
  })

  test('two different bodies at once: one wins, the other gets 409, and what is served is the winner', async () => {
    for (let round = 0; round < 20; round++) {
      const size = round % 2 === 0 ? 300_000 : 60_000
      const known = (await filesIn(server.dataDir, 'files')).length
      const bodies = [textOf(size, `one ${round}`), textOf(size, `two ${round}`)]
      const created = await createText(client, size)
      const wires = await Promise.all(bodies.map(() => dial(server.cdn)))
      await Promise.all(wires.map((wire) => begin(wire, created)))
      await Promise.all(wires.map((wire, i) => wire.write((bodies[i] ?? Buffer.alloc(0)).subarray(0, -1))))
      await Promise.all(wires.map((wire, i) => wire.write((bodies[i] ?? Buffer.alloc(0)).subarray(-1))))
      const replies = await Promise.all(wires.map((wire) => wire.reply()))
      for (const wire of wires) wire.socket.destroy()
      assert.deepEqual(replies.map(({ status }) => status).sort(), [200, 409])
      const winner = replies.findIndex(({ status }) => status === 200)
      assert.equal(sha256(await download(created.download_url)), sha256(bodies[winner] ?? Buffer.alloc(0)))
      assert.equal((await filesIn(server.dataDir, 'files')).length, known + 1)
    }
  })

  test('the same body five times at once: five times 200, stored once', async () => {
    for (const size of [300_000, 50_000]) {
      const bytes = textOf(size, 'same')
      const created = await createText(client, bytes.length)
      const known = (await filesIn(server.dataDir, 'files')).length
      const answers = await Promise.all(Array.from({ length: 5 }, () => put(created, new Uint8Array(bytes))))
      assert.deepEqual(
        answers.map(({ status }) => status),
        [200, 200, 200, 200, 200],
      )
      assert.equal((await filesIn(server.dataDir, 'files')).length, known + 1)
      assert.deepEqual(await download(created.download_url), bytes)
    }
  })
})

describe('Expect: 100-continue', () => {
  const EXPECT = { Expect: '100-continue' }

  test('a good request is invited before its body', async () => {
    const bytes = textOf(2 * MB)
    const created = await createText(client, bytes.length)
    using wire = await dial(server.cdn)
    await begin(wire, created, EXPECT)
    assert.equal((await wire.reply()).status, 100)
    await wire.write(bytes)
    assert.equal((await wire.reply()).status, 200)
    assert.deepEqual(await download(created.download_url), bytes)
  })

  test('a bad one gets the final refusal instead, and the line is closed', async () => {
    const created = await createText(client, 2 * MB)
    const bad: [Record<string, string>, Refusal][] = [
      [{ 'Content-Type': 'image/png' }, { status: 403, code: 'SignatureDoesNotMatch' }],
      [{ 'Content-Length': '7' }, { status: 403, code: 'SignatureDoesNotMatch' }],
    ]
    for (const [headers, refusal] of bad) {
      using wire = await dial(server.cdn)
      await begin(wire, created, { ...EXPECT, ...headers })
      const reply = await wire.reply()
      assertXml(reply, refusal)
      assert.equal(reply.headers.connection, 'close')
      await wire.closed
    }
    await assertNothingKept(created)
  })

  test('one that was invited and then sends too much is refused in sight', async () => {
    const created = await createText(client, 1000)
    using wire = await dial(server.cdn)
    await begin(wire, created, { ...EXPECT, ...CHUNKED })
    assert.equal((await wire.reply()).status, 100)
    const body = chunked(textOf(8 * MB), 65_536)
    for (let at = 0; at < body.length; at += 65_536) assert.ok(await wire.write(body.subarray(at, at + 65_536)))
    assertXml(await wire.reply(), { status: 400, code: 'EntityTooLarge' })
  })
})

describe('a large body that is refused', () => {
  test('is read away, so that a client which sends all of it first sees the answer, and may go on', async () => {
    const bytes = textOf(20 * MB)
    const created = await createText(client, bytes.length)
    using wire = await dial(server.cdn)
    for (let round = 0; round < 3; round++) {
      await begin(wire, created, { 'Content-Type': 'image/png' })
      for (let at = 0; at < bytes.length; at += 65_536) {
        assert.ok(await wire.write(bytes.subarray(at, at + 65_536)), `the line was closed after ${at} bytes`)
      }
      assertXml(await wire.reply(), { status: 403, code: 'SignatureDoesNotMatch' })
    }
    await begin(wire, created)
    await wire.write(bytes)
    assert.equal((await wire.reply()).status, 200)
  })

  test('fetch sees the answer every time', async () => {
    const bytes = new Uint8Array(textOf(20 * MB))
    const created = await createText(client, bytes.length)
    for (let round = 0; round < 10; round++) {
      const refusal = { status: 403, code: 'SignatureDoesNotMatch' }
      await assertRefused(put(created, bytes, { 'Content-Type': 'image/png' }), refusal)
    }
  })

  test('is not read for ever: past its limit the line is closed', async () => {
    const created = await createText(client, 10)
    using wire = await dial(server.cdn)
    await begin(wire, created, { ...CHUNKED, 'Content-Type': 'image/png' })
    const chunk = chunked(textOf(4 * MB), 4 * MB).subarray(0, -5)
    let sent = 0
    while (sent < 400 * MB && (await wire.write(chunk))) sent += chunk.length
    assert.ok(sent < 200 * MB, `${sent} bytes were read`)
  })
})

describe('from a browser', () => {
  const preflight = (url: string) =>
    fetch(url, {
      method: 'OPTIONS',
      headers: {
        origin: 'https://app.example.com',
        'access-control-request-method': 'PUT',
        'access-control-request-headers': 'content-type',
      },
    })

  test('the preflight allows PUT from any origin with any header', async () => {
    const response = await preflight((await createText(client, 5)).upload_url)
    assert.equal(response.status, 204)
    assert.equal(response.headers.get('access-control-allow-origin'), '*')
    assert.match(response.headers.get('access-control-allow-methods') ?? '', /\bPUT\b/)
    assert.equal(response.headers.get('access-control-allow-headers'), '*')
  })

  test('the answer may be read, its ETag too', async () => {
    const created = await createText(client, 5)
    const response = await put(created, 'hello', { origin: 'https://app.example.com' })
    assert.equal(response.headers.get('access-control-allow-origin'), '*')
    assert.match(response.headers.get('access-control-expose-headers') ?? '', /\bETag\b/)
  })
})

test('a client of keep-alive connections may upload many files over few of them', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 2 })
  const bytes = textOf(50_000)
  const all = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const created = await createText(client, bytes.length)
      const options = { method: 'PUT', agent, headers: created.required_headers }
      return await new Promise<number | undefined>((resolve, reject) => {
        const sent = request(created.upload_url, options, (response) => {
          response.resume().on('end', () => resolve(response.statusCode))
        })
        sent.on('error', reject).end(bytes)
      })
    }),
  )
  agent.destroy()
  assert.deepEqual(new Set(all), new Set([200]))
})
