/** Uploads through the edge onto every storage: what was inspected is what is served, whatever is PUT afterwards. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { jpeg, svg } from '../fixtures/media/files.ts'
import { S3_KINDS, type S3Server, startS3 } from '../support/s3.ts'
import { type Server, startServer } from '../support/satchel.ts'

for (const kind of [...S3_KINDS, 'disk'] as const)
  describe(`through the edge onto ${kind}`, () => {
    let s3: S3Server | undefined
    let server: Server
    before(async () => {
      s3 = kind === 'disk' ? undefined : await startS3(kind)
      server = await startServer({ env: { ...s3?.env({ prefix: 'shared/bucket' }), SATCHEL_UPLOADS: 'proxy' } })
    })
    after(async () => {
      await server?.[Symbol.asyncDispose]()
      await s3?.[Symbol.asyncDispose]()
    })

    async function create(size_bytes: number) {
      const slot = await server.client().attachments.create({
        filename: 'photo.jpg',
        content_type: 'image/jpeg',
        size_bytes,
      })
      assert.ok(slot.upload_url.startsWith(`${server.cdn}/uploads/`))
      const put = (body: Buffer) => fetch(slot.upload_url, { method: 'PUT', headers: slot.required_headers, body })
      const status = async () => (await server.client().attachments.retrieve(slot.attachment_id)).status
      const read = async () => Buffer.from(await (await fetch(slot.download_url)).arrayBuffer())
      return { put, status, read }
    }

    for (const size of [2_000, 9_000_000])
      test(`a second PUT with other bytes is refused and changes nothing, ${size} bytes`, async () => {
        const [bytes, other] = [Buffer.concat([jpeg(), randomBytes(size)]), Buffer.concat([jpeg(), randomBytes(size)])]
        const { put, status, read } = await create(bytes.length)
        assert.equal((await put(bytes)).status, 200)
        assert.equal(await status(), 'complete')
        const again = await put(other)
        assert.equal(again.status, 409)
        assert.match(await again.text(), /InvalidObjectState/)
        assert.equal((await put(bytes)).status, 200)
        assert.ok((await read()).equals(bytes))
      })

    test('of many PUTs at once one wins, and it is served whole', async () => {
      const versions = Array.from({ length: 8 }, () => Buffer.concat([jpeg(), randomBytes(400_000)]))
      const { put, status, read } = await create(versions[0]?.length ?? 0)
      const answers = await Promise.all(versions.map((bytes) => put(bytes)))
      const statuses = answers.map((answer) => answer.status).sort()
      assert.deepEqual(statuses, [200, ...Array.from({ length: 7 }, () => 409)])
      assert.equal(await status(), 'complete')
      const won = versions[answers.findIndex((answer) => answer.status === 200)]
      assert.ok(won && (await read()).equals(won))
    })

    test('an upload that breaks off leaves the attachment as it was, for the next to fill', async () => {
      const bytes = Buffer.concat([jpeg(), randomBytes(3_000_000)])
      const { put, status, read } = await create(bytes.length)
      const broken = await put(bytes.subarray(0, 1_000_000)).catch(() => undefined)
      assert.notEqual(broken?.status, 200)
      assert.equal(await status(), 'pending')
      const refused = await put(Buffer.from(svg.padEnd(bytes.length, ' ')))
      assert.equal(refused.status, 200)
      assert.equal(await status(), 'failed')
      assert.equal((await put(bytes)).status, 200)
      assert.equal(await status(), 'complete')
      assert.ok((await read()).equals(bytes))
    })
  })
