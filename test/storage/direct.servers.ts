/**
 * Uploads straight to a bucket, from outside: the whole journey by the official SDK, and what a client, or a thief of its
 * URL, can try before, during and after the inspection. On both S3 servers.
 */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { get } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { HeadObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { jpeg, svg } from '../fixtures/media/files.ts'
import { ask } from '../support/database.ts'
import { ACCESS_KEY_ID, BUCKET, S3_KINDS, type S3Server, SECRET_ACCESS_KEY, startS3 } from '../support/s3.ts'
import { runCli, type Server, startServer } from '../support/satchel.ts'

const MINUTE_S = 60

for (const kind of S3_KINDS)
  describe(`a bucket of ${kind}`, () => {
    let s3: S3Server
    let server: Server
    let bucket: S3Client
    before(async () => {
      s3 = await startS3(kind)
      server = await startServer({ env: s3.env() })
      bucket = new S3Client({
        endpoint: s3.endpoint,
        region: 'us-east-1',
        forcePathStyle: true,
        credentials: { accessKeyId: ACCESS_KEY_ID, secretAccessKey: SECRET_ACCESS_KEY },
      })
    })
    after(async () => {
      bucket?.destroy()
      await server?.[Symbol.asyncDispose]()
      await s3?.[Symbol.asyncDispose]()
    })

    const photo = () => Buffer.concat([jpeg(), randomBytes(2_000)])
    const create = (bytes: Buffer) =>
      server
        .client()
        .attachments.create({ filename: 'photo.jpg', content_type: 'image/jpeg', size_bytes: bytes.length })
    type Slot = Awaited<ReturnType<typeof create>>
    const put = ({ upload_url, required_headers }: Slot, body: Buffer) =>
      fetch(upload_url, { method: 'PUT', headers: required_headers, body })
    async function uploaded(bytes: Buffer): Promise<Slot> {
      const slot = await create(bytes)
      const answer = await put(slot, bytes)
      assert.equal(answer.status, 200, await answer.text())
      return slot
    }
    const status = async ({ attachment_id }: Slot) => (await server.client().attachments.retrieve(attachment_id)).status
    async function download(url: string, headers: Record<string, string> = {}) {
      const answer = await fetch(url, { headers })
      return { status: answer.status, headers: answer.headers, body: Buffer.from(await answer.arrayBuffer()) }
    }
    async function keys(): Promise<string[]> {
      const { Contents = [] } = await bucket.send(new ListObjectsV2Command({ Bucket: BUCKET }))
      return Contents.map(({ Key = '' }) => Key).filter((key) => !key.endsWith('/'))
    }
    const stagedOf = async ({ attachment_id }: Slot) => (await keys()).filter((key) => key.endsWith(attachment_id))
    async function eventually(check: () => Promise<boolean>, what: string): Promise<void> {
      const until = Date.now() + 15_000
      while (!(await check())) {
        assert.ok(Date.now() < until, what)
        await sleep(100)
      }
    }
    /** Moves the clock of the sandbox; `undefined` puts it right again. */
    async function moveClock(seconds?: number): Promise<void> {
      const answer = await fetch(`${server.api}/sandbox/clock`, {
        method: 'POST',
        headers: { authorization: `Bearer ${server.apiKey}`, 'content-type': 'application/json' },
        body: JSON.stringify(seconds === undefined ? { reset: true } : { advance_seconds: seconds }),
      })
      assert.equal(answer.status, 200)
    }
    const rowOf = async ({ attachment_id }: Slot) =>
      (
        await ask<{ status: string; sha256: string | null }>(
          server,
          'select status, sha256 from attachments where id = $1',
          [attachment_id],
        )
      )[0]

    test('create, upload, retrieve, download in parts, send and delete', async () => {
      const bytes = photo()
      const slot = await create(bytes)
      assert.ok(slot.upload_url.startsWith(`${s3.endpoint}/${BUCKET}/staging/`))
      assert.deepEqual(slot.required_headers, { 'Content-Type': 'image/jpeg', 'Content-Length': String(bytes.length) })
      assert.equal(await status(slot), 'pending')
      const missing = await download(slot.download_url)
      assert.equal(missing.status, 404)
      assert.equal(missing.headers.get('cache-control'), 'no-store')
      assert.equal((await put(slot, bytes)).status, 200)

      const found = await server.client().attachments.retrieve(slot.attachment_id)
      assert.equal(found.status, 'complete')
      assert.equal(found.download_url, slot.download_url)
      assert.deepEqual(await stagedOf(slot), [])
      const whole = await download(slot.download_url)
      assert.equal(whole.status, 200)
      assert.ok(whole.body.equals(bytes))
      assert.equal(whole.headers.get('etag'), `"${createHash('sha256').update(bytes).digest('hex')}"`)
      assert.equal(whole.headers.get('content-length'), String(bytes.length))
      assert.equal(whole.headers.get('cache-control'), 'public, max-age=300')
      const part = await download(slot.download_url, { range: 'bytes=10-19' })
      assert.equal(part.status, 206)
      assert.equal(part.headers.get('content-range'), `bytes 10-19/${bytes.length}`)
      assert.ok(part.body.equals(bytes.subarray(10, 20)))
      assert.equal((await download(slot.download_url, { range: 'bytes=-5' })).body.length, 5)
      assert.equal((await download(slot.download_url, { range: `bytes=${bytes.length}-` })).status, 416)
      assert.equal(
        (await download(slot.download_url, { 'if-none-match': whole.headers.get('etag') ?? '' })).status,
        304,
      )

      const chat = await server.client().chats.create({
        from: server.phoneNumbers[0] ?? '',
        to: ['+14155550123'],
        message: { parts: [{ type: 'media', attachment_id: slot.attachment_id }] },
      })
      assert.ok(chat.chat.id)
      await server.client().attachments.delete(slot.attachment_id)
      assert.equal((await download(slot.download_url)).status, 404)
      await eventually(async () => (await keys()).length === 0, 'the object is deleted')
    })

    test('an upload can be sent at once, without being retrieved', async () => {
      const slot = await uploaded(photo())
      const sent = await server.client().chats.create({
        from: server.phoneNumbers[0] ?? '',
        to: ['+14155550124'],
        message: {
          parts: [
            { type: 'media', attachment_id: slot.attachment_id },
            { type: 'media', url: slot.download_url },
          ],
        },
      })
      assert.ok(sent.chat.message.id)
      assert.equal((await rowOf(slot))?.status, 'complete')
    })

    test('an upload can be downloaded at once, without being retrieved', async () => {
      const bytes = photo()
      const slot = await uploaded(bytes)
      assert.ok((await download(slot.download_url)).body.equals(bytes))
    })

    test('a foreign address settles nothing', async () => {
      const slot = await uploaded(photo())
      const foreign = slot.download_url.replace(/partners\/[^/]+/, 'partners/00000000-0000-4000-8000-000000000000')
      assert.equal((await download(foreign)).status, 404)
      assert.equal((await rowOf(slot))?.status, 'pending')
    })

    test('a second PUT with other bytes after the inspection changes nothing that is served', async () => {
      const bytes = photo()
      const other = Buffer.concat([jpeg(), randomBytes(2_000)])
      const slot = await uploaded(bytes)
      assert.equal(await status(slot), 'complete')
      assert.equal((await put(slot, other)).status, 200)
      for (let i = 0; i < 3; i++) {
        assert.equal(await status(slot), 'complete')
        assert.ok((await download(slot.download_url)).body.equals(bytes))
      }
      assert.equal((await rowOf(slot))?.sha256, createHash('sha256').update(bytes).digest('hex'))
    })

    test('of many PUTs and looks at once, what was inspected is what is served, whole', async () => {
      const versions = Array.from({ length: 6 }, () => Buffer.concat([jpeg(), randomBytes(300_000)]))
      const slot = await create(versions[0] ?? Buffer.alloc(0))
      const served: Buffer[] = []
      await Promise.all([
        ...versions.map(async (bytes, i) => {
          await sleep(i * 15)
          await put(slot, bytes).catch(() => {})
        }),
        ...Array.from({ length: 12 }, async (_, i) => {
          await sleep(i * 20)
          if ((await status(slot)) === 'complete') served.push((await download(slot.download_url)).body)
        }),
      ])
      assert.equal(await status(slot), 'complete')
      served.push((await download(slot.download_url)).body)
      const sha256 = (await rowOf(slot))?.sha256
      for (const body of served) assert.equal(createHash('sha256').update(body).digest('hex'), sha256)
      assert.ok(versions.some((bytes) => bytes.equals(served[0] ?? Buffer.alloc(0))))
    })

    test('refused content fails, and other content may follow while the URL lives', async () => {
      const good = photo()
      const bad = Buffer.from(svg.padEnd(good.length, ' '))
      const second = await create(good)
      assert.equal((await put(second, bad)).status, 200)
      assert.equal(await status(second), 'failed')
      assert.equal((await download(second.download_url)).status, 404)
      assert.deepEqual(await stagedOf(second), [])
      await assert.rejects(
        server.client().chats.create({
          from: server.phoneNumbers[0] ?? '',
          to: ['+14155550125'],
          message: { parts: [{ type: 'media', attachment_id: second.attachment_id }] },
        }),
        (error: { status?: number; error?: { error?: { code?: number } } }) =>
          error.status === 400 && error.error?.error?.code === 5004,
      )
      assert.equal((await put(second, good)).status, 200)
      assert.equal(await status(second), 'complete')
      assert.ok((await download(second.download_url)).body.equals(good))
    })

    test('what is not exactly the declared size is not the upload', async () => {
      const bytes = photo()
      const slot = await create(bytes)
      const Key = new URL(slot.upload_url).pathname.slice(`/${BUCKET}/`.length)
      await bucket.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body: bytes.subarray(0, 100) }))
      assert.equal(await status(slot), 'pending')
      await assert.rejects(
        server.client().chats.create({
          from: server.phoneNumbers[0] ?? '',
          to: ['+14155550126'],
          message: { parts: [{ type: 'media', attachment_id: slot.attachment_id }] },
        }),
        (error: { status?: number; error?: { error?: { code?: number } } }) =>
          error.status === 404 && error.error?.error?.code === 2007,
      )
      assert.equal((await put(slot, bytes)).status, 200)
      assert.equal(await status(slot), 'complete')
    })

    test('nobody asks: the job settles what was uploaded when its URL expires, and clears away what came late', async () => {
      try {
        const [bytes, never] = [photo(), await create(photo())]
        const [asked, late] = [await uploaded(bytes), await create(bytes)]
        await moveClock(16 * MINUTE_S)
        await eventually(async () => (await rowOf(asked))?.status === 'complete', 'settled by the job')
        await eventually(async () => (await stagedOf(asked)).length === 0, 'the staged object is gone')
        assert.equal(await status(never), 'pending')
        // It began in time and took long: the bucket still takes it, and so do we.
        assert.equal((await put(late, bytes)).status, 200)
        assert.equal(await status(late), 'complete')
        // And what nobody will ever look at again goes.
        assert.equal((await put(never, photo())).status, 200)
        assert.equal((await put(asked, bytes)).status, 200)
        assert.equal((await stagedOf(asked)).length, 1)
        await moveClock(62 * MINUTE_S)
        await eventually(
          async () => (await keys()).every((key) => !key.startsWith('staging/')),
          'nothing is left staged',
        )
        // A job is crossed off after what it does.
        const settling = `select count(*) as waiting from jobs where kind = 'upload.settle'`
        await eventually(async () => {
          const [row] = await ask<{ waiting: number | string }>(server, settling)
          return Number(row?.waiting) === 0
        }, 'no job is left')
      } finally {
        await moveClock()
      }
    })

    test('a pending upload that is deleted takes its bytes with it', async () => {
      const slot = await uploaded(photo())
      await server.client().attachments.delete(slot.attachment_id)
      await eventually(async () => (await stagedOf(slot)).length === 0, 'the staged object is gone')
    })

    test('a server that was killed while it settled settles again', async () => {
      const bytes = Buffer.concat([jpeg(), randomBytes(20_000_000)])
      const slot = await uploaded(bytes)
      const asked = status(slot).catch(() => 'cut off')
      await sleep(60)
      await server.kill()
      await asked
      server = await startServer({ env: s3.env(), dataDir: server.dataDir })
      const found = await server.client().attachments.retrieve(slot.attachment_id)
      assert.equal(found.status, 'complete')
      assert.ok((await download(found.download_url ?? '')).body.equals(bytes))
    })

    test('a reader that hangs up ends the read from the bucket', async () => {
      const bytes = Buffer.concat([jpeg(), randomBytes(30_000_000)])
      const slot = await uploaded(bytes)
      assert.equal(await status(slot), 'complete')
      for (let i = 0; i < 10; i++) {
        const request = get(slot.download_url)
        const [answer] = await once(request, 'response')
        await once(answer, 'readable')
        request.destroy()
      }
      const memory = await fetch(`${server.api}/metrics`).then((answer) => answer.text())
      const resident = Number(/^process_resident_memory_bytes (\S+)/m.exec(memory)?.[1])
      assert.ok(resident < 400e6, `${resident} bytes resident`)
      assert.ok((await download(slot.download_url)).body.equals(bytes))
    })

    test('in the end every row has its object and a key of its own', async () => {
      const { Contents = [] } = await bucket.send(new ListObjectsV2Command({ Bucket: BUCKET, Prefix: 'media/' }))
      const rows = await ask<{ storage_key: string }>(
        server,
        'select storage_key from attachments where storage_key is not null',
      )
      assert.equal(new Set(rows.map((row) => row.storage_key)).size, rows.length)
      for (const { storage_key } of rows) await bucket.send(new HeadObjectCommand({ Bucket: BUCKET, Key: storage_key }))
      const { stdout, code } = await runCli(['sweep', '--older-than', '1h', '--json'], server.env)
      assert.equal(code, 0, stdout)
      assert.ok(Contents.length >= rows.length)
    })
  })
