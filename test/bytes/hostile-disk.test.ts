/** The disk fails, or the power goes, between two steps of an upload that are otherwise never seen apart. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { type HostileDisk, hostileDisk, type Order } from '../support/hostile-disk.ts'
import { packedIn } from '../support/packs.ts'
import { runCli, type Server, startServer } from '../support/satchel.ts'
import {
  type Created,
  createText,
  download,
  filesIn,
  fixedPorts,
  md5,
  put,
  textOf,
  uploadText,
} from '../support/wire.ts'

const SMALL = 60_000
const LARGE = 600_000
const HOUR = 3_600_000

type Stage = { disk: HostileDisk; dataDir: string; start: () => Promise<Server> }

/** A data folder and ports that outlive their server. */
async function setUp(t: TestContext): Promise<Stage> {
  const disk = await hostileDisk()
  const dataDir = await mkdtemp(join(tmpdir(), 'satchel-hostile-'))
  const env = { ...disk.env, ...(await fixedPorts()) }
  const started: Server[] = []
  t.after(async () => {
    for (const server of started) await server.stop()
    await disk.remove()
    await rm(dataDir, { recursive: true, force: true })
  })
  return {
    disk,
    dataDir,
    async start() {
      await disk.order(undefined)
      const server = await startServer({ dataDir, env })
      started.push(server)
      return server
    },
  }
}

const bodyOf = (bytes: Buffer) => new Uint8Array(bytes)

async function assertAcknowledged(response: Response, bytes: Buffer): Promise<void> {
  assert.equal(response.status, 200, await response.text())
  assert.equal(response.headers.get('etag'), `"${md5(bytes)}"`)
}

async function assertPending(server: Server, created: Created): Promise<void> {
  assert.equal((await server.client().attachments.retrieve(created.attachment_id)).status, 'pending')
  assert.equal((await fetch(created.download_url)).status, 404)
}

/** As if it had been written long ago, so that a sweep may judge it. */
async function age(dataDir: string): Promise<void> {
  for (const { name, at } of await packedIn(dataDir)) {
    const writtenAt = Buffer.alloc(8)
    writtenAt.writeDoubleLE(Date.now() - 2 * HOUR)
    const file = await open(join(dataDir, 'files', 'packs', name), 'r+')
    await file.write(writtenAt, 0, 8, at + 12)
    await file.close()
  }
}

describe('a kill in the middle of a small upload', () => {
  const moments: [what: string, order: Order, isThere: boolean][] = [
    ['when its bytes are written and not synced', { call: 'writev', path: '/packs/', act: 'kill after' }, false],
    ['when its bytes are synced and no row has them', { call: 'datasync', path: '/packs/', act: 'kill after' }, false],
    ['when its row is written and it is not answered', { call: 'answer', act: 'kill before' }, true],
  ]
  for (const [what, order, isThere] of moments)
    test(`${what}: nothing acknowledged is lost, it may be repeated, and what nobody has is swept`, async (t) => {
      const { disk, dataDir, start } = await setUp(t)
      const first = await start()
      const kept = [textOf(SMALL, 'kept'), textOf(SMALL, 'kept too')]
      const acknowledged = await Promise.all(kept.map((bytes) => uploadText(first.client(), bytes)))
      const bytes = textOf(SMALL, 'cut off')
      const cut = await createText(first.client(), SMALL)
      await disk.order(order)
      await Promise.all([assert.rejects(put(cut, bodyOf(bytes))), once(first.process, 'exit')])
      assert.equal(first.process.signalCode, 'SIGKILL')
      const records = await packedIn(dataDir)
      assert.equal(records.length, 3, 'the kill came too early')
      assert.ok(records.every(({ isLive }) => isLive))

      const second = await start()
      const { status } = await second.client().attachments.retrieve(cut.attachment_id)
      assert.equal(status, isThere ? 'complete' : 'pending')
      assert.equal((await fetch(cut.download_url)).status, isThere ? 200 : 404)
      await assertAcknowledged(await put(cut, bodyOf(bytes)), bytes)
      assert.deepEqual(await download(cut.download_url), bytes)
      assert.equal((await packedIn(dataDir)).length, isThere ? 3 : 4)

      await second.stop()
      await age(dataDir)
      const { code, stdout } = await runCli(['sweep', '--json', '--delete', '--older-than', '1h'], second.env)
      assert.equal(code, 0, stdout)
      const living = (await packedIn(dataDir)).filter(({ isLive }) => isLive)
      const expected = [...kept, bytes].map(md5)
      assert.deepEqual(new Set(living.map(({ body }) => md5(body))), new Set(expected))
      assert.equal(living.length, 3)
      await start()
      for (const [i, created] of [...acknowledged, cut].entries()) {
        assert.equal(md5(await download(created.download_url)), expected[i])
      }
    })
})

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
      const { disk, dataDir, start } = await setUp(t)
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
      const refused = await Promise.all(pending.map((created, i) => put(created, bodyOf(bodies[i] as Buffer))))
      for (const response of refused) assert.match(`${response.status} ${await response.text()}`, answer)
      assert.equal((await stat(pack)).size, size, 'cut back to what was acknowledged')
      assert.equal((await packedIn(dataDir)).length, 1)
      for (const created of pending) await assertPending(server, created)
      assert.deepEqual(await download(acknowledged.download_url), kept)

      await disk.order(undefined)
      for (const [i, created] of pending.entries()) {
        const bytes = bodies[i] as Buffer
        await assertAcknowledged(await put(created, bodyOf(bytes)), bytes)
        assert.deepEqual(await download(created.download_url), bytes)
      }
      assert.equal((await stat(pack)).size, size)
      const records = await packedIn(dataDir)
      assert.equal(records.length, 9)
      assert.equal(records.filter((record) => record.name === name).length, 1)
      assert.deepEqual(await download(acknowledged.download_url), kept)
    })

  const large: [what: string, order: Order][] = [
    ['the sync of its file', { call: 'datasync', path: '/tmp/', act: 'EIO' }],
    ['the sync of the folder that got its name', { call: 'sync', path: '/objects/media/', act: 'EIO' }],
    ['the sync of the folder that got a new folder', { call: 'sync', path: '/objects', act: 'EIO' }],
  ]
  for (const [what, order] of large)
    test(`a large upload that fails with ${what} is not acknowledged, leaves nothing, and may be repeated`, async (t) => {
      const { disk, dataDir, start } = await setUp(t)
      const server = await start()
      const bytes = textOf(LARGE)
      const created = await createText(server.client(), LARGE)
      await disk.order(order)
      const response = await put(created, bodyOf(bytes))
      assert.match(`${response.status} ${await response.text()}`, /^500 .*<Code>InternalError</s)
      await assertPending(server, created)
      assert.deepEqual(await filesIn(dataDir, 'files'), [])
      await disk.order(undefined)
      await assertAcknowledged(await put(created, bodyOf(bytes)), bytes)
      assert.deepEqual(await download(created.download_url), bytes)
    })
})

describe('the thread that hashes large uploads', () => {
  for (const [moment, call] of [
    ['in the middle of them', 'update'],
    ['at their end', 'digest'],
  ] as const)
    test(`dies ${moment}: 503 to each of them, nothing of them is kept, and the next upload works`, async (t) => {
      const { disk, dataDir, start } = await setUp(t)
      const server = await start()
      const bodies = [textOf(6_000_000, 'one'), textOf(5_000_000, 'two')]
      const uploads = await Promise.all(
        bodies.map(async (bytes) => ({ bytes, created: await createText(server.client(), bytes.length) })),
      )
      await disk.order({ call, act: 'kill before' })
      const answers = uploads.map(({ created, bytes }) => put(created, bodyOf(bytes)))
      const small = textOf(SMALL)
      assert.deepEqual(await download((await uploadText(server.client(), small)).download_url), small)
      for (const response of await Promise.all(answers)) {
        assert.match(`${response.status} ${await response.text()}`, /^503 .*<Code>ServiceUnavailable</s)
      }
      for (const { created } of uploads) await assertPending(server, created)
      assert.equal((await filesIn(dataDir, 'files')).length, 1)
      await disk.order(undefined)
      const repeat = async ({ created, bytes }: (typeof uploads)[0]) => {
        await assertAcknowledged(await put(created, bodyOf(bytes)), bytes)
        assert.equal(md5(await download(created.download_url)), md5(bytes))
      }
      await Promise.all(uploads.map(repeat))
      assert.equal(server.process.exitCode, null)
    })
})
