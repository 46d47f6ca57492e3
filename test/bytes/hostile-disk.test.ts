/** A disk or a thread that fails in the middle of an upload: nothing is acknowledged that might be lost, and the next one works. */
import assert from 'node:assert/strict'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { ask } from '../support/database.ts'
import type { Order } from '../support/hostile-disk.ts'
import { assertAcknowledged, assertPending, hostileStage } from '../support/hostile-stage.ts'
import { packedIn } from '../support/packs.ts'
import { createText, dial, download, filesIn, md5, put, textOf, until, uploadText } from '../support/wire.ts'

const SMALL = 60_000
const LARGE = 600_000
describe('a disk that fails', () => {
  const faults: [what: string, order: Order, answer: RegExp][] = [
    ['a sync', { call: 'datasync', path: '/packs/', act: 'EIO' }, /^500 .*<Code>InternalError</s],
    ['a write', { call: 'writev', path: '/packs/', act: 'EIO' }, /^500 .*<Code>InternalError</s],
    [
      'half a write',
      { call: 'writev', path: '/packs/', act: 'half, then ENOSPC' },
      /^503 .*<Code>ServiceUnavailable</s,
    ],
  ]
  for (const [what, order, answer] of faults)
    test(`with ${what} of many small uploads refuses them all, and nothing is ever appended to that pack again`, async (t) => {
      const { disk, dataDir, start } = await hostileStage(t)
      const server = await start()
      const client = server.client()
      const kept = textOf(SMALL, 'kept')
      const acknowledged = await uploadText(client, kept)
      const [{ name = '' } = {}] = await packedIn(dataDir)
      const pack = join(dataDir, 'files', 'packs', name)
      const { size } = await stat(pack)

      const bodies = Array.from({ length: 8 }, (_, n) => textOf(SMALL + n, `${n}`))
      const pending = await Promise.all(bodies.map(({ length }) => createText(client, length)))
      await disk.order(order)
      const refused = await Promise.all(pending.map((created, i) => put(created, new Uint8Array(bodies[i] as Buffer))))
      for (const response of refused) assert.match(`${response.status} ${await response.text()}`, answer)
      assert.equal((await stat(pack)).size, size, 'cut back to what was acknowledged')
      assert.equal((await packedIn(dataDir)).length, 1)
      for (const created of pending) await assertPending(server, created)
      assert.deepEqual(await download(acknowledged.download_url), kept)

      await disk.order(undefined)
      for (const [i, created] of pending.entries()) {
        const bytes = bodies[i] as Buffer
        await assertAcknowledged(await put(created, new Uint8Array(bytes)), bytes)
        assert.deepEqual(await download(created.download_url), bytes)
      }
      assert.equal((await stat(pack)).size, size)
      const records = await packedIn(dataDir)
      assert.equal(records.length, 9)
      assert.equal(records.filter((record) => record.name === name).length, 1)
      assert.deepEqual(await download(acknowledged.download_url), kept)
    })

  test('with the sync of the folder refuses the first small upload of all, and leaves no file for it', async (t) => {
    const { disk, dataDir, start } = await hostileStage(t)
    const server = await start()
    const bytes = textOf(SMALL)
    const created = await createText(server.client(), SMALL)
    await disk.order({ call: 'sync', path: '/files/packs', act: 'EIO' })
    assert.equal((await put(created, new Uint8Array(bytes))).status, 500)
    await assertPending(server, created)
    assert.deepEqual(await readdir(join(dataDir, 'files/packs')), [])
    await disk.order(undefined)
    await assertAcknowledged(await put(created, new Uint8Array(bytes)), bytes)
    assert.deepEqual(await download(created.download_url), bytes)
  })

  test('with the sync of a deletion deletes again when it works again', async (t) => {
    const { disk, dataDir, start } = await hostileStage(t)
    const server = await start()
    const client = server.client()
    const kept = await uploadText(client, textOf(SMALL, 'kept'))
    const deleted = await uploadText(client, textOf(SMALL, 'deleted'))
    await disk.order({ call: 'datasync', path: '/packs/', act: 'EIO' })
    await client.attachments.delete(deleted.attachment_id)
    await until('it was tried', () => server.log().includes('"job":"bytes.delete"'))
    assert.equal((await fetch(deleted.download_url)).status, 404)
    const jobs = () => ask<{ n: number }>(server, "select count(*) as n from jobs where kind = 'bytes.delete'")
    assert.equal((await jobs())[0]?.n, 1)
    await disk.order(undefined)
    await until('it is done', async () => (await jobs())[0]?.n === 0)
    const hashes = (await packedIn(dataDir)).filter(({ isLive }) => isLive).map(({ body }) => md5(body))
    assert.deepEqual(hashes, [md5(textOf(SMALL, 'kept'))])
    assert.deepEqual(await download(kept.download_url), textOf(SMALL, 'kept'))
  })

  const large: [what: string, order: Order][] = [
    ['the sync of its file', { call: 'datasync', path: '/tmp/', act: 'EIO' }],
    ['the sync of the folder that got its name', { call: 'sync', path: '/objects/media/', act: 'EIO' }],
    ['the sync of the folder that got a new folder', { call: 'sync', path: '/objects', act: 'EIO' }],
  ]
  for (const [what, order] of large)
    test(`a large upload that fails with ${what} is not acknowledged, leaves nothing, and may be repeated`, async (t) => {
      const { disk, dataDir, start } = await hostileStage(t)
      const server = await start()
      const bytes = textOf(LARGE)
      const created = await createText(server.client(), LARGE)
      await disk.order(order)
      const response = await put(created, new Uint8Array(bytes))
      assert.match(`${response.status} ${await response.text()}`, /^500 .*<Code>InternalError</s)
      await assertPending(server, created)
      assert.deepEqual(await filesIn(dataDir, 'files'), [])
      await disk.order(undefined)
      await assertAcknowledged(await put(created, new Uint8Array(bytes)), bytes)
      assert.deepEqual(await download(created.download_url), bytes)
    })

  test('while a large upload is still coming refuses it at once, keeps nothing, and the next one works', async (t) => {
    const { disk, dataDir, start } = await hostileStage(t)
    const server = await start()
    const bytes = textOf(24 * 1024 * 1024)
    const created = await createText(server.client(), bytes.length)
    await disk.order({ call: 'datasync', path: '/tmp/', act: 'EIO' })
    using wire = await dial(server.cdn)
    const { host, pathname, search } = new URL(created.upload_url)
    await wire.head(`PUT ${pathname}${search}`, { Host: host, ...created.required_headers })
    await wire.write(bytes.subarray(0, 20 * 1024 * 1024))
    const reply = await wire.reply()
    assert.match(`${reply.status} ${reply.body}`, /^500 .*<Code>InternalError</s)
    await assertPending(server, created)
    assert.deepEqual(await filesIn(dataDir, 'files'), [])
    await disk.order(undefined)
    await assertAcknowledged(await put(created, new Uint8Array(bytes)), bytes)
    assert.equal(md5(await download(created.download_url)), md5(bytes))
  })
})

describe('the thread that hashes large uploads', () => {
  for (const [moment, call] of [
    ['in the middle of them', 'update'],
    ['at their end', 'digest'],
  ] as const)
    test(`dies ${moment}: 503 to each of them, nothing of them is kept, and the next upload works`, async (t) => {
      const { disk, dataDir, start } = await hostileStage(t)
      const server = await start()
      const bodies = [textOf(6_000_000, 'one'), textOf(5_000_000, 'two')]
      const uploads = await Promise.all(
        bodies.map(async (bytes) => ({ bytes, created: await createText(server.client(), bytes.length) })),
      )
      await disk.order({ call, act: 'kill before' })
      const answers = uploads.map(({ created, bytes }) => put(created, new Uint8Array(bytes)))
      const small = textOf(SMALL)
      assert.deepEqual(await download((await uploadText(server.client(), small)).download_url), small)
      for (const response of await Promise.all(answers)) {
        assert.match(`${response.status} ${await response.text()}`, /^503 .*<Code>ServiceUnavailable</s)
      }
      for (const { created } of uploads) await assertPending(server, created)
      assert.equal((await filesIn(dataDir, 'files')).length, 1)
      await disk.order(undefined)
      const repeat = async ({ created, bytes }: (typeof uploads)[0]) => {
        await assertAcknowledged(await put(created, new Uint8Array(bytes)), bytes)
        assert.equal(md5(await download(created.download_url)), md5(bytes))
      }
      await Promise.all(uploads.map(repeat))
      assert.equal(server.process.exitCode, null)
    })
})
