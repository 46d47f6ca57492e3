/** The CDN: what it serves, with which headers, to whom not, and what it costs when a client goes away. */
import assert from 'node:assert/strict'
import { readdir, readlink } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import type LinqAPIV3 from '@linqapp/sdk'
import { zip } from '../fixtures/media/containers.ts'
import { jpeg, png } from '../fixtures/media/files.ts'
import { runCli, type Server, startServer } from '../support/satchel.ts'
import {
  type Created,
  createText,
  descriptorsOf,
  dial,
  download,
  put,
  sha256,
  textOf,
  until,
  uploadText,
} from '../support/wire.ts'

const MB = 1024 * 1024
const BYTES = textOf(100_000)
const ETAG = `"${sha256(BYTES)}"`

let server: Server
let client: LinqAPIV3
let file: Created
before(async () => {
  server = await startServer()
  client = server.client()
  file = await uploadText(client, BYTES)
})
after(() => server[Symbol.asyncDispose]())

const get = (headers: Record<string, string> = {}, method = 'GET') => fetch(file.download_url, { method, headers })

async function bodyOf(response: Response): Promise<Buffer> {
  return Buffer.from(await response.arrayBuffer())
}

async function rawGet(path: string, headers: Record<string, string> = {}, method = 'GET') {
  using wire = await dial(server.cdn)
  await wire.head(`${method} ${path}`, { Host: new URL(server.cdn).host, ...headers })
  return await wire.reply({ head: method === 'HEAD' })
}

async function uploaded(bytes: Uint8Array, filename: string, content_type: string): Promise<Created> {
  const declared = { filename, content_type, size_bytes: bytes.length } as LinqAPIV3.AttachmentCreateParams
  const created = await client.attachments.create(declared)
  assert.equal((await put(created, new Uint8Array(bytes))).status, 200)
  assert.equal((await client.attachments.retrieve(created.attachment_id)).status, 'complete')
  return created
}

describe('a whole file', () => {
  test('comes with its type, length, strong ETag of its SHA-256, and nothing that would let it run', async () => {
    const response = await get()
    assert.equal(response.status, 200)
    assert.deepEqual(await bodyOf(response), BYTES)
    const { headers } = response
    assert.equal(headers.get('content-type'), 'text/plain')
    assert.equal(headers.get('content-length'), '100000')
    assert.equal(headers.get('etag'), ETAG)
    assert.equal(headers.get('accept-ranges'), 'bytes')
    assert.equal(headers.get('content-disposition'), 'inline; filename="note.txt"')
    assert.equal(headers.get('x-content-type-options'), 'nosniff')
    assert.match(headers.get('content-security-policy') ?? '', /default-src 'none';.*\bsandbox$/)
    assert.equal(headers.get('access-control-allow-origin'), '*')
    assert.match(headers.get('access-control-expose-headers') ?? '', /Content-Range/)
    assert.match(headers.get('x-trace-id') ?? '', /^[0-9a-f]{32}$/)
    assert.ok(Math.abs(Date.parse(headers.get('last-modified') ?? '') - Date.now()) < 60_000)
    const [, seconds] = /^public, max-age=(\d+)$/.exec(headers.get('cache-control') ?? '') ?? []
    assert.ok(Number(seconds) > 0 && Number(seconds) <= 3600, 'a deleted file must leave the caches soon')
  })

  test('HEAD answers the same headers without the body', async () => {
    const [whole, head] = [await get(), await get({}, 'HEAD')]
    await whole.arrayBuffer()
    assert.equal(head.status, 200)
    assert.equal((await bodyOf(head)).length, 0)
    const varying = ['date', 'x-trace-id', 'connection', 'keep-alive']
    const steady = (h: Headers) => [...h].filter(([name]) => !varying.includes(name))
    assert.deepEqual(steady(head.headers), steady(whole.headers))
  })

  test('HEAD leaves the connection usable', async () => {
    using wire = await dial(server.cdn)
    const { host, pathname } = new URL(file.download_url)
    for (let round = 0; round < 3; round++) {
      await wire.head(`HEAD ${pathname}`, { Host: host })
      assert.equal((await wire.reply({ head: true })).headers['content-length'], '100000')
    }
    await wire.head(`GET ${pathname}`, { Host: host })
    assert.deepEqual((await wire.reply()).body, BYTES)
  })

  test('needs no API key, and does not care for a wrong one', async () => {
    assert.equal((await get({ authorization: 'Bearer nobody' })).status, 200)
  })

  test('other methods answer 405 with Allow, and a preflight is answered', async () => {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
      const response = await get({}, method)
      assert.equal(response.status, 405)
      assert.equal(response.headers.get('allow'), 'GET, HEAD, OPTIONS')
    }
    const preflight = await get(
      { origin: 'https://app.example.com', 'access-control-request-method': 'GET' },
      'OPTIONS',
    )
    assert.equal(preflight.status, 204)
    assert.equal(preflight.headers.get('access-control-allow-origin'), '*')
    assert.deepEqual(await download(file.download_url), BYTES)
  })
})

describe('Range', () => {
  const last = BYTES.length - 1
  const satisfiable: [range: string, start: number, end: number][] = [
    ['bytes=0-1', 0, 1],
    ['bytes=0-0', 0, 0],
    ['bytes=5-', 5, last],
    ['bytes=0-', 0, last],
    ['bytes=-1', last, last],
    ['bytes=-500', last - 499, last],
    ['bytes=-100000', 0, last],
    ['bytes=-999999999', 0, last],
    [`bytes=${last}-`, last, last],
    ['bytes=99990-999999999', 99_990, last],
    ['bytes=65535-65537', 65_535, 65_537],
    ['BYTES=2-3', 2, 3],
  ]
  for (const [range, start, end] of satisfiable)
    test(`${range} answers 206 with exactly these bytes`, async () => {
      const response = await get({ range })
      assert.equal(response.status, 206)
      assert.equal(response.headers.get('content-range'), `bytes ${start}-${end}/100000`)
      assert.equal(response.headers.get('content-length'), String(end - start + 1))
      assert.equal(response.headers.get('etag'), ETAG)
      assert.deepEqual(await bodyOf(response), BYTES.subarray(start, end + 1))
    })

  for (const range of ['bytes=100000-', 'bytes=100000-100001', 'bytes=999999999999999999999-', 'bytes=-0'])
    test(`${range} answers 416 with the full size`, async () => {
      const response = await get({ range })
      assert.equal(response.status, 416)
      assert.equal(response.headers.get('content-range'), 'bytes */100000')
      assert.equal((await bodyOf(response)).length, 0)
    })

  const ignored = [
    'bytes=0-1,5-6',
    'bytes=',
    'bytes=-',
    'bytes=a-b',
    'bytes=5-4',
    'bytes=1',
    'lines=0-1',
    'bytes 0-1',
    'bytes=0-1;',
  ]
  for (const range of ignored)
    test(`"${range}" is ignored and answers the whole file`, async () => {
      const response = await get({ range })
      assert.equal(response.status, 200)
      assert.equal(response.headers.get('content-range'), null)
      assert.deepEqual(await bodyOf(response), BYTES)
    })

  test('HEAD has no ranges', async () => {
    const response = await get({ range: 'bytes=0-1' }, 'HEAD')
    assert.equal(response.status, 200)
    assert.equal(response.headers.get('content-length'), '100000')
  })

  test('If-Range with our tag or date keeps the range, anything else gives the whole file', async () => {
    const modified = (await get({}, 'HEAD')).headers.get('last-modified') ?? ''
    for (const [ifRange, status] of [
      [ETAG, 206],
      [modified, 206],
      [`W/${ETAG}`, 200],
      ['"other"', 200],
      ['Thu, 01 Jan 2026 00:00:00 GMT', 200],
      ['nonsense', 200],
    ] as const) {
      const response = await get({ range: 'bytes=0-1', 'if-range': ifRange })
      assert.equal(response.status, status, ifRange)
      assert.equal((await bodyOf(response)).length, status === 206 ? 2 : BYTES.length)
    }
  })
})

describe('validators', () => {
  test('If-None-Match with our tag, also weak, in a list or as *, answers 304 without a body', async () => {
    for (const tags of [ETAG, `W/${ETAG}`, `"a", ${ETAG} , "b"`, '*']) {
      for (const method of ['GET', 'HEAD']) {
        const response = await get({ 'if-none-match': tags }, method)
        assert.equal(response.status, 304, tags)
        assert.equal(response.headers.get('etag'), ETAG)
        assert.ok(response.headers.get('cache-control'))
        assert.equal((await bodyOf(response)).length, 0)
      }
    }
  })

  test('If-None-Match with another tag answers the file', async () => {
    for (const tags of ['"other"', 'nonsense', ETAG.replaceAll('"', '')]) {
      const response = await get({ 'if-none-match': tags })
      assert.equal(response.status, 200, tags)
      assert.equal((await bodyOf(response)).length, BYTES.length)
    }
  })

  test('If-Match with another tag answers 412, If-Modified-Since of now 304', async () => {
    assert.equal((await get({ 'if-match': '"other"' })).status, 412)
    const modified = (await get({}, 'HEAD')).headers.get('last-modified') ?? ''
    assert.equal((await get({ 'if-modified-since': modified })).status, 304)
  })

  test('a 304 leaves the connection usable', async () => {
    using wire = await dial(server.cdn)
    const { host, pathname } = new URL(file.download_url)
    await wire.head(`GET ${pathname}`, { Host: host, 'If-None-Match': ETAG })
    assert.equal((await wire.reply()).status, 304)
    await wire.head(`GET ${pathname}`, { Host: host })
    assert.equal((await wire.reply()).status, 200)
  })
})

describe('what a browser may do with it', () => {
  const html = Buffer.from('<!doctype html><html><body><script>alert(1)</script></body></html>')
  const csv = Buffer.from('name,number\nada,1\nbob,2\n')
  const table: [string, string, Uint8Array, 'inline' | 'attachment'][] = [
    ['photo.jpg', 'image/jpeg', jpeg(), 'inline'],
    ['photo.png', 'image/png', png(), 'inline'],
    ['page.html', 'text/html', html, 'attachment'],
    ['list.csv', 'text/csv', csv, 'attachment'],
    ['paper.pdf', 'application/pdf', Buffer.from('%PDF-1.4\n%%EOF\n'), 'attachment'],
    ['files.zip', 'application/zip', zip([{ name: 'a.txt', data: 'a' }]), 'attachment'],
  ]
  for (const [filename, contentType, bytes, kind] of table)
    test(`${contentType} is ${kind === 'inline' ? 'shown' : 'saved'}`, async () => {
      const created = await uploaded(bytes, filename, contentType)
      const { headers } = await fetch(created.download_url, { method: 'HEAD' })
      assert.equal(headers.get('content-type'), contentType)
      assert.equal(headers.get('content-disposition'), `${kind}; filename="${filename}"`)
      assert.equal(headers.get('x-content-type-options'), 'nosniff')
      assert.match(headers.get('content-security-policy') ?? '', /\bsandbox$/)
    })
})

describe('names', () => {
  const names = [
    'Grüße aus Köln.txt',
    '日本語の写真.txt',
    'رسالة.txt',
    'шифр.txt',
    '한국어 파일.txt',
    'e\u0301 and é.txt',
    '👩‍👩‍👧‍👦.txt',
    '🎉'.repeat(255),
    `${'a'.repeat(251)}.txt`,
    'say "hi" \'there\'.txt',
    'semi;colon, comma=equals.txt',
    'hundred%25 percent %41 %.txt',
    '100%.txt',
    'a b+c&d#e?f.txt',
    'caf\u00e9 (1) [x] {y} ~!*.txt',
    ' leading and trailing ',
    '...dots',
    '__proto__',
    'constructor',
    'new line? no.txt',
  ]
  for (const name of names)
    test(`${JSON.stringify(name.length > 60 ? `${name.slice(0, 20)}…` : name)} is served under its URL and saved under its name`, async () => {
      const created = await uploadText(client, Buffer.from('hello'), name)
      assert.equal((await client.attachments.retrieve(created.attachment_id)).filename, name)
      const response = await fetch(created.download_url)
      assert.equal(response.status, 200)
      assert.equal(await response.text(), 'hello')
      const disposition = response.headers.get('content-disposition') ?? ''
      assert.match(disposition, /^inline; filename="[\x20-\x7e]*"(; filename\*=UTF-8''[\w!#$&+.^`|~%-]+)?$/)
      const [, extended] = /filename\*=UTF-8''(.+)$/.exec(disposition) ?? []
      const [, plain] = /filename="([^"]*)"/.exec(disposition) ?? []
      assert.equal(extended === undefined ? plain : decodeURIComponent(extended), name.trim())
      const raw = await rawGet(new URL(created.download_url).pathname)
      assert.equal(raw.status, 200)
    })

  test('carriage returns, line feeds and NULs never get in', async () => {
    for (const filename of ['a\r\nSet-Cookie: x=1\r\n.txt', 'a\nb.txt', 'a\0b.txt', 'a\u2028b.txt', '..', '/']) {
      await assert.rejects(createText(client, 5, filename), { status: 400 })
    }
  })

  test('of a path only the last segment is kept', async () => {
    const created = await uploadText(client, Buffer.from('hello'), '../../etc/passwd.txt')
    assert.equal(new URL(created.download_url).pathname.split('/').at(-1), 'passwd.txt')
    assert.equal((await fetch(created.download_url)).status, 200)
  })
})

describe('404', () => {
  const assertMissing = async (response: Response, why: string) => {
    const body = (await response.json()) as { error: { code: number } }
    assert.deepEqual({ status: response.status, code: body.error.code }, { status: 404, code: 2003 }, why)
    assert.equal(response.headers.get('cache-control'), 'no-store')
    assert.equal(response.headers.get('access-control-allow-origin'), '*')
  }

  test('every segment of the path has to be right', async () => {
    const { origin, pathname } = new URL(file.download_url)
    const segments = pathname.split('/')
    assert.equal(segments.length, 6)
    const other = await uploadText(client, Buffer.from('hello'), 'other.txt')
    const otherId = new URL(other.download_url).pathname.split('/')[4] ?? ''
    const changes: [number, string][] = [
      [3, '00000000-0000-7000-8000-000000000000'],
      [3, segments[4] ?? ''],
      [3, (segments[3] ?? '').toUpperCase()],
      [4, '00000000-0000-7000-8000-000000000000'],
      [4, otherId],
      [4, (segments[4] ?? '').toUpperCase()],
      [5, 'NOTE.txt'],
      [5, 'note'],
      [5, 'note.txt%20'],
      [5, 'note.txt%00'],
      [5, 'other.txt'],
    ]
    for (const [index, value] of changes) {
      const changed = segments.with(index, value).join('/')
      assert.notEqual(changed, pathname)
      await assertMissing(await fetch(origin + changed), changed)
    }
    for (const path of [
      `${pathname}/`,
      pathname.slice(0, pathname.lastIndexOf('/')),
      '/attachments',
      '/',
      '/v3/attachments',
    ]) {
      assert.equal((await fetch(origin + path)).status, 404, path)
    }
  })

  test("another partner's id in the path does not open a file", async () => {
    const args = ['partners', 'create', '--name', 'other', '--phone', '+12025550188', '--json']
    const { stdout } = await runCli(args, server.env)
    const { partner_id } = JSON.parse(stdout) as { partner_id: string }
    const own = new URL(file.download_url).pathname.split('/')[3] ?? ''
    await assertMissing(await fetch(file.download_url.replace(own, partner_id)), 'foreign')
  })

  test('pending, failed and deleted attachments are not there', async () => {
    const pending = await createText(client, 5)
    await assertMissing(await fetch(pending.download_url), 'pending')
    const failed = await createText(client, png().length)
    await put(failed, new Uint8Array(png()))
    await assertMissing(await fetch(failed.download_url), 'failed')
    const deleted = await uploadText(client, Buffer.from('hello'))
    assert.equal((await fetch(deleted.download_url)).status, 200)
    await client.attachments.delete(deleted.attachment_id)
    await assertMissing(await fetch(deleted.download_url), 'deleted')
    await assertMissing(await fetch(deleted.download_url, { headers: { 'if-none-match': '*' } }), 'deleted')
  })
})

describe('a path that wants out', () => {
  const attempts = [
    '/../../../../etc/passwd',
    '/attachments/partners/../../../etc/passwd',
    '/attachments/partners/%2e%2e/%2e%2e/passwd',
    '/attachments/partners/..%2f..%2f..%2fetc/x/passwd',
    '/attachments/partners/PARTNER/ID/..%2f..%2f..%2fsatchel.sqlite',
    '/attachments/partners/PARTNER/ID/%2e%2e%2f%2e%2e%2fsatchel.sqlite',
    '/attachments/partners/PARTNER/ID/..',
    '/attachments/partners/PARTNER/ID/.',
    '/attachments/partners/PARTNER/../PARTNER/ID/note.txt',
    '/attachments/partners/PARTNER/./ID/note.txt',
    '/attachments/partners/PARTNER//ID/note.txt',
    '//attachments/partners/PARTNER/ID/note.txt',
    '/attachments//partners/PARTNER/ID/note.txt',
    '/attachments/partners/PARTNER/ID/note.txt/',
    '/attachments/partners/PARTNER/ID//note.txt',
    '/attachments/partners/PARTNER/ID/note.txt%00',
    '/attachments/partners/PARTNER/ID/%00',
    '/attachments/partners/PARTNER%00/ID/note.txt',
    '/attachments/partners/PARTNER/ID%00/note.txt',
    '/attachments\\partners\\PARTNER\\ID\\note.txt',
    '/attachments/partners/PARTNER/ID/..\\..\\satchel.sqlite',
    '/attachments/partners/PARTNER/ID/..%5c..%5csatchel.sqlite',
    '/attachments/partners/PARTNER%2fID%2fnote.txt',
    '/attachments/partners/PARTNER/ID/note%2etxt%2f',
    '/attachments/partners/PARTNER/ID/%c0%ae%c0%ae',
    '/attachments/partners/PARTNER/ID/%ff',
    '/attachments/partners/PARTNER/ID/%',
    '/attachments/partners/PARTNER/ID/%u002e',
    '/attachments/partners/%252e%252e/ID/note.txt',
    '/files/objects/media',
    '/satchel.sqlite',
    '/upload-signing-key',
    '/uploads/../upload-signing-key',
    '*',
  ]
  for (const attempt of attempts)
    test(`${attempt} answers 4xx and nothing of the disk`, async () => {
      const [, , , partner = '', id = ''] = new URL(file.download_url).pathname.split('/')
      const path = attempt.replaceAll('PARTNER', partner).replaceAll('ID', id)
      const { status, headers, body } = await rawGet(path)
      assert.ok(status >= 400 && status < 500, `${status} ${body.toString().slice(0, 200)}`)
      assert.match(headers['content-type'] ?? '', /^application\/(json|xml)/)
      assert.ok(!body.includes(server.dataDir) && !body.includes('SQLite') && !body.includes('root:'))
    })

  test('the same file under a spelling with percent signs is the same file', async () => {
    const { pathname } = new URL(file.download_url)
    assert.equal((await rawGet(pathname.replace('note.txt', 'n%6fte%2Etxt'))).status, 200)
    assert.equal((await rawGet(`${pathname}?x=1&y=%zz`)).status, 200)
  })

  test('a target that is far too long answers 4xx and the server lives on', async () => {
    assert.equal((await rawGet(`/attachments/partners/${'a'.repeat(5_000)}/b/c`)).status, 400)
    assert.equal((await rawGet(`/${'a'.repeat(20_000)}`)).status, 431)
    assert.equal((await get()).status, 200)
  })
})

describe('a client that goes away', () => {
  test('half way through a download leaves no descriptor open', async () => {
    const big = await uploadText(client, textOf(8 * MB))
    const { host, pathname } = new URL(big.download_url)
    const pid = server.process.pid ?? 0
    const hangUp = async (heard: number) => {
      using wire = await dial(server.cdn)
      await wire.head(`GET ${pathname}`, { Host: host })
      if (heard > 0) await until('the download is under way', () => wire.heard.length > heard)
      wire.socket.destroy()
    }
    for (let round = 0; round < 5; round++) await hangUp(1000)
    const steady = await settled(pid)
    for (let round = 0; round < 20; round++) {
      await Promise.all(Array.from({ length: 10 }, (_, i) => hangUp(i % 3 === 0 ? 0 : i * 100_000)))
    }
    await until('all descriptors are closed', async () => (await descriptorsOf(pid)) <= steady)
    assert.deepEqual(sha256(await download(big.download_url)), sha256(textOf(8 * MB)))
  })

  test('reading slowly, it gets every byte', async () => {
    const bytes = textOf(4 * MB, 'slow')
    const created = await uploadText(client, bytes)
    const { host, pathname } = new URL(created.download_url)
    using wire = await dial(server.cdn)
    await wire.head(`GET ${pathname}`, { Host: host })
    for (let round = 0; round < 20; round++) {
      wire.socket.pause()
      await new Promise((resolve) => setTimeout(resolve, 20))
      wire.socket.resume()
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    assert.deepEqual((await wire.reply()).body, bytes)
  })

  test('gets the rest of a file that is deleted meanwhile; then its bytes are gone, and nobody holds them open', async () => {
    const bytes = textOf(8 * MB, 'deleted')
    const created = await uploadText(client, bytes)
    assert.equal((await download(created.download_url)).length, bytes.length)
    const { host, pathname } = new URL(created.download_url)
    using wire = await dial(server.cdn)
    // At once: a reader that is a little late would have all of it in buffers of the system.
    wire.socket.once('data', () => wire.socket.pause())
    await wire.head(`GET ${pathname}`, { Host: host })
    await until('the download is under way', () => wire.heard.length > 0)
    await client.attachments.delete(created.attachment_id)
    assert.equal((await fetch(created.download_url)).status, 404)
    const pid = server.process.pid ?? 0
    await until('the file is unlinked', async () => (await deletedFiles(pid)) === 1)
    wire.socket.resume()
    assert.deepEqual(sha256((await wire.reply()).body), sha256(bytes))
    await until('its space is given back', async () => (await deletedFiles(pid)) === 0)
  })

  test('a small file that was just read is 404 as soon as it is deleted', async () => {
    const created = await uploadText(client, textOf(50_000, 'small'))
    for (let round = 0; round < 3; round++) assert.equal((await download(created.download_url)).length, 50_000)
    await client.attachments.delete(created.attachment_id)
    assert.equal((await fetch(created.download_url)).status, 404)
  })

  test('many ask for one file at once, whole and in parts, and each gets its own part', async () => {
    const bytes = textOf(4 * MB, 'shared')
    const created = await uploadText(client, bytes)
    await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const start = i * 100_003
        const response = await fetch(created.download_url, { headers: { range: `bytes=${start}-` } })
        const body = Buffer.from(await response.arrayBuffer())
        assert.ok(body.equals(bytes.subarray(start)), `from ${start} on`)
      }),
    )
  })

  /** How many files that have no name any more the process holds open (Linux). */
  async function deletedFiles(pid: number): Promise<number> {
    const folder = `/proc/${pid}/fd`
    const names = await readdir(folder)
    const targets = await Promise.all(names.map((name) => readlink(`${folder}/${name}`).catch(() => '')))
    return targets.filter((target) => target.includes('/objects/') && target.endsWith(' (deleted)')).length
  }

  /** The count once it has stayed the same for a while. */
  async function settled(pid: number): Promise<number> {
    let count = await descriptorsOf(pid)
    for (let same = 0; same < 8; same++) {
      await new Promise((resolve) => setTimeout(resolve, 50))
      const now = await descriptorsOf(pid)
      if (now !== count) same = 0
      count = now
    }
    return count
  }
})
