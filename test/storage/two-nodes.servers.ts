/** Two nodes on one database and one bucket look at the same uploads at the same time: one wins, nothing is left of the other. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { jpeg } from '../fixtures/media/files.ts'
import { ask } from '../support/database.ts'
import { startPostgres } from '../support/postgres.ts'
import { S3_KINDS, startS3 } from '../support/s3.ts'
import { runCli, startServer } from '../support/satchel.ts'

for (const kind of S3_KINDS)
  test(`on ${kind}, an upload is settled once, whoever asks`, { timeout: 300_000 }, async () => {
    await using postgres = await startPostgres()
    await using s3 = await startS3(kind)
    const env = { ...s3.env(), SATCHEL_DATABASE_URL: await postgres.createDatabase(), SATCHEL_API_KEY: 'two-nodes-key' }
    await using one = await startServer({ env })
    await using two = await startServer({ env })
    await Promise.all(
      Array.from({ length: 12 }, async () => {
        const bytes = Buffer.concat([jpeg(), randomBytes(200_000)])
        const slot = await one.client().attachments.create({
          filename: 'photo.jpg',
          content_type: 'image/jpeg',
          size_bytes: bytes.length,
        })
        const put = await fetch(slot.upload_url, { method: 'PUT', headers: slot.required_headers, body: bytes })
        assert.equal(put.status, 200)
        const found = await Promise.all(
          [one, two, one, two].map((server) => server.client().attachments.retrieve(slot.attachment_id)),
        )
        assert.ok(found.every(({ status }) => status === 'complete'))
        for (const { download_url = '' } of found) {
          const body = Buffer.from(await (await fetch(download_url)).arrayBuffer())
          assert.ok(body.equals(bytes))
        }
      }),
    )
    const rows = await ask(one, 'select storage_key from attachments where status = $1', ['complete'])
    assert.equal(rows.length, 12)
    const { stdout } = await runCli(['sweep', '--older-than', '1h', '--json'], one.env)
    const totals = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}')
    assert.equal(totals.objects, 12, stdout)
  })
