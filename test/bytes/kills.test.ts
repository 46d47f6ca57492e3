/** SIGKILL exactly between two steps that are otherwise never seen apart: of an upload, a deletion, a move of small files. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { Order } from '../support/hostile-disk.ts'
import { assertAcknowledged, hostileStage } from '../support/hostile-stage.ts'
import { beginEarlier, makeOld, packedIn } from '../support/packs.ts'
import { advance } from '../support/sandbox.ts'
import { runCli, type Server } from '../support/satchel.ts'
import { createText, download, md5, put, textOf, until, uploadText } from '../support/wire.ts'

const SMALL = 60_000
const HOUR = 3_600_000

async function killed(server: Server): Promise<void> {
  if (server.process.signalCode === null) await once(server.process, 'exit')
  assert.equal(server.process.signalCode, 'SIGKILL')
}

/** Deletes what no row has, as an operator does; nothing that fits must be among it. */
async function sweep(server: Server): Promise<void> {
  await makeOld(server.dataDir, 2 * HOUR)
  const { code, stdout } = await runCli(['sweep', '--json', '--delete', '--older-than', '1h'], server.env)
  assert.equal(code, 0, stdout)
}

const living = async (dataDir: string) => (await packedIn(dataDir)).filter(({ isLive }) => isLive)
const hashesOf = (bodies: Buffer[]) => bodies.map(md5).sort()

describe('a kill in the middle of a small upload', () => {
  const moments: [what: string, order: Order, isThere: boolean][] = [
    ['when its bytes are written and not synced', { call: 'writev', path: '/packs/', act: 'kill after' }, false],
    ['when its bytes are synced and no row has them', { call: 'datasync', path: '/packs/', act: 'kill after' }, false],
    ['when its row is written and it is not answered', { call: 'answer', act: 'kill before' }, true],
  ]
  for (const [what, order, isThere] of moments)
    test(`${what}: nothing acknowledged is lost, it may be repeated, and what nobody has is swept`, async (t) => {
      const { disk, dataDir, start } = await hostileStage(t)
      const first = await start()
      const kept = [textOf(SMALL, 'kept'), textOf(SMALL, 'kept too')]
      const acknowledged = await Promise.all(kept.map((bytes) => uploadText(first.client(), bytes)))
      const bytes = textOf(SMALL, 'cut off')
      const cut = await createText(first.client(), SMALL)
      await disk.order(order)
      await assert.rejects(put(cut, new Uint8Array(bytes)))
      await killed(first)
      const records = await packedIn(dataDir)
      assert.equal(records.length, 3, 'the kill came too early')
      assert.ok(records.every(({ isLive }) => isLive))

      const second = await start()
      const { status } = await second.client().attachments.retrieve(cut.attachment_id)
      assert.equal(status, isThere ? 'complete' : 'pending')
      assert.equal((await fetch(cut.download_url)).status, isThere ? 200 : 404)
      await assertAcknowledged(await put(cut, new Uint8Array(bytes)), bytes)
      assert.deepEqual(await download(cut.download_url), bytes)
      assert.equal((await packedIn(dataDir)).length, isThere ? 3 : 4)

      await second.stop()
      await sweep(second)
      const expected = [...kept, bytes]
      assert.deepEqual(hashesOf((await living(dataDir)).map(({ body }) => body)), hashesOf(expected))
      await start()
      for (const [i, created] of [...acknowledged, cut].entries()) {
        assert.deepEqual(await download(created.download_url), expected[i])
      }
    })
})

test('a kill in the middle of a deletion, before or after it is synced, leaves nothing of the file', async (t) => {
  const { disk, dataDir, start } = await hostileStage(t)
  for (const call of ['writev', 'datasync'] as const) {
    const first = await start()
    const kept = await uploadText(first.client(), textOf(SMALL, call))
    const deleted = await uploadText(first.client(), textOf(SMALL, `not ${call}`))
    await disk.order({ call, path: '/packs/', act: 'kill after' })
    await first.client().attachments.delete(deleted.attachment_id)
    await killed(first)
    const second = await start()
    assert.equal((await fetch(deleted.download_url)).status, 404)
    const hashes = async () => (await living(dataDir)).map(({ body }) => md5(body))
    await until('it is erased', async () => !(await hashes()).includes(md5(textOf(SMALL, `not ${call}`))))
    assert.deepEqual(await download(kept.download_url), textOf(SMALL, call))
    await second.stop()
  }
  assert.equal((await living(dataDir)).length, 2)
})

describe('a kill while small files are moved together', () => {
  const moments: [what: string, order: Order, isMoved: boolean][] = [
    ['when copies are synced and no row has them', { call: 'datasync', path: '/packs/', act: 'kill after' }, false],
    [
      'when all are moved and their old file is removed',
      { call: 'sync', path: '/files/packs', act: 'kill before' },
      true,
    ],
  ]
  for (const [what, order, isMoved] of moments)
    test(`${what}: each is there, and after a sweep it is there once`, async (t) => {
      const { disk, dataDir, start } = await hostileStage(t)
      const first = await start()
      const bodies = Array.from({ length: 12 }, (_, n) => textOf(5_000 + n, `${n}`))
      const files = await Promise.all(bodies.map((bytes) => uploadText(first.client(), bytes)))
      await first.stop()
      const old = await beginEarlier(first, 25 * HOUR)
      const second = await start()
      for (const { attachment_id } of files.slice(4)) await second.client().attachments.delete(attachment_id)
      await until('they are erased', async () => (await living(dataDir)).length === 4)
      const last = await uploadText(second.client(), textOf(SMALL)) // so that there is a pack to append to
      await disk.order(order)
      await advance(second, HOUR / 1000)
      await killed(second)
      assert.equal((await readdir(join(dataDir, 'files/packs'))).includes(old), !isMoved)

      const third = await start()
      const kept = [...bodies.slice(0, 4), textOf(SMALL)]
      const created = [...files.slice(0, 4), last]
      for (const [i, { download_url }] of created.entries()) assert.deepEqual(await download(download_url), kept[i])
      await third.stop()
      await sweep(third)
      assert.deepEqual(hashesOf((await living(dataDir)).map(({ body }) => body)), hashesOf(kept))
      await start()
      for (const [i, { download_url }] of created.entries()) assert.deepEqual(await download(download_url), kept[i])
    })
})
