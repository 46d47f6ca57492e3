/** A full disk, and a database that another process holds: refused in words a client understands, and over when it is over. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { countRows, DATABASE } from '../support/database.ts'
import { packedIn } from '../support/packs.ts'
import { type Server, startServer } from '../support/satchel.ts'
import { createText, download, filesIn, md5, put, textOf, until, uploadText } from '../support/wire.ts'

const MB = 1024 * 1024

type SmallDisk = {
  dataDir: string
  /** But for so many bytes. */
  fill(server: Server, left?: number): Promise<void>
  free(server: Server): Promise<void>
  remove(): Promise<void>
}

/**
 * A disk of 8 MB where mounting is allowed; elsewhere a limit on how large a file the server may write, which ends writes
 * the same way half through.
 */
async function smallDisk(): Promise<SmallDisk> {
  const dataDir = await mkdtemp(join(tmpdir(), 'satchel-small-'))
  const isMounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', dataDir]).status === 0
  const ballast = join(dataDir, 'ballast')
  const limit = (server: Server, bytes: string) => {
    const { status, stderr } = spawnSync('prlimit', ['--pid', `${server.process.pid}`, `--fsize=${bytes}:`], {
      encoding: 'utf8',
    })
    assert.equal(status, 0, `this machine can neither mount nor limit: ${stderr}`)
  }
  return {
    dataDir,
    async fill(server, left = 4096) {
      if (!isMounted) return limit(server, `${left}`)
      await writeUntilFull(ballast)
      if (left > 4096) await truncate(ballast, (await stat(ballast)).size - left)
    },
    free: async (server) => (isMounted ? await rm(ballast) : limit(server, 'unlimited')),
    async remove() {
      if (isMounted) assert.equal(spawnSync('umount', [dataDir]).status, 0)
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

async function writeUntilFull(path: string): Promise<void> {
  for (const size of [MB, 64 * 1024, 4096]) {
    for (let full = false; !full; ) {
      await writeFile(path, new Uint8Array(size), { flag: 'a' }).catch(() => {
        full = true
      })
    }
  }
}

describe('a full disk', () => {
  test('refuses uploads and creates as unavailable, keeps nothing by halves, and works again when there is room', async (t) => {
    const disk = await smallDisk()
    t.after(() => disk.remove())
    await using server = await startServer({ dataDir: disk.dataDir })
    const client = server.client()
    const kept = await uploadText(client, textOf(100_000))
    const bytes = textOf(2 * MB)
    const pending = await createText(client, bytes.length)

    await disk.fill(server)
    const upload = await put(pending, new Uint8Array(bytes))
    const xml = await upload.text()
    assert.match(
      `${upload.status} ${xml}`,
      /^(503 .*\n<Error><Code>ServiceUnavailable<|500 .*\n<Error><Code>InternalError<)/,
    )
    assert.equal((await filesIn(disk.dataDir, 'files')).length, 1)
    const answers: { status: number; code: number }[] = []
    for (let n = 0; n < 30; n++) answers.push(await tryToCreate(server))
    const refused = answers.filter(({ status }) => status !== 200)
    t.diagnostic(
      `upload ${upload.status}; of 30 creates refused: ${JSON.stringify(refused.slice(0, 2))} × ${refused.length}`,
    )
    // Rows that are elsewhere have room; what says so of PostgreSQL's own disk is in src/db/postgres.servers.ts.
    if (DATABASE === 'SQLite') assert.ok(refused.length > 0, 'the disk was not full')
    else assert.deepEqual(refused, [])
    for (const { status, code } of refused)
      assert.ok([500, 503].includes(status) && [3001, 3002].includes(code), `${status} ${code}`)
    assert.equal((await fetch(`${server.api}/healthz`)).status, 200)
    assert.deepEqual(await download(kept.download_url), textOf(100_000))

    await disk.free(server)
    assert.equal((await client.attachments.retrieve(pending.attachment_id)).status, 'pending')
    assert.equal((await put(pending, new Uint8Array(bytes))).status, 200)
    assert.deepEqual(await download(pending.download_url), bytes)
    assert.equal((await tryToCreate(server)).status, 200)
    assert.equal(server.process.exitCode, null)
  })

  test('refuses an upload of which only a part finds room', async (t) => {
    const disk = await smallDisk()
    t.after(() => disk.remove())
    await using server = await startServer({ dataDir: disk.dataDir })
    const bytes = textOf(20 * MB)
    const created = await createText(server.client(), bytes.length)
    if (spawnSync('mountpoint', ['-q', disk.dataDir]).status !== 0) await disk.fill(server)
    const response = await put(created, new Uint8Array(bytes))
    assert.ok([500, 503].includes(response.status))
    assert.match(response.headers.get('content-type') ?? '', /^application\/xml/)
    assert.deepEqual(await filesIn(disk.dataDir, 'files'), [])
    if (spawnSync('mountpoint', ['-q', disk.dataDir]).status !== 0) await disk.free(server)
    await uploadText(server.client(), textOf(MB))
  })

  test('of many small uploads at once refuses those that find no room, and never serves a part of one', async (t) => {
    const disk = await smallDisk()
    t.after(() => disk.remove())
    await using server = await startServer({ dataDir: disk.dataDir })
    const client = server.client()
    const kept = textOf(100_000, 'kept')
    const { download_url: keptUrl } = await uploadText(client, kept)
    const bodies = Array.from({ length: 20 }, (_, n) => textOf(100_000 + n, `${n}`))
    const uploads = await Promise.all(
      bodies.map(async (bytes) => ({ bytes, created: await createText(client, bytes.length) })),
    )

    await disk.fill(server, 500_000)
    const outcomes = await Promise.all(
      uploads.map(async (upload) => {
        const response = await put(upload.created, new Uint8Array(upload.bytes))
        return { ...upload, status: response.status, xml: await response.text() }
      }),
    )
    const refused = outcomes.filter(({ status }) => status !== 200)
    t.diagnostic(`${refused.length} of ${outcomes.length} refused`)
    assert.ok(refused.length > 0, 'the disk was not full')
    for (const { status, xml, created } of refused) {
      assert.match(`${status} ${xml}`, /^(503 .*<Code>ServiceUnavailable<|500 .*<Code>InternalError<)/s)
      assert.equal((await fetch(created.download_url)).status, 404)
    }
    for (const { created, bytes, status } of outcomes) {
      if (status === 200) assert.deepEqual(await download(created.download_url), bytes)
    }
    assert.deepEqual(await download(keptUrl), kept)

    await disk.free(server)
    for (const { created, bytes } of refused) {
      assert.equal((await client.attachments.retrieve(created.attachment_id)).status, 'pending')
      assert.equal((await put(created, new Uint8Array(bytes))).status, 200)
    }
    for (const { created, bytes } of uploads) assert.deepEqual(await download(created.download_url), bytes)
    assert.deepEqual(await download(keptUrl), kept)
    const known = new Set([kept, ...bodies].map(md5))
    const records = await packedIn(disk.dataDir)
    for (const { body, length } of records) assert.ok(body.length === length && known.has(md5(body)))
    assert.equal(new Set(records.map(({ body }) => md5(body))).size, known.size)
  })

  async function tryToCreate(server: Server): Promise<{ status: number; code: number }> {
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify({ filename: 'a.txt', content_type: 'text/plain', size_bytes: 5 })
    const response = await server.call('/v3/attachments', { method: 'POST', headers, body })
    const { error } = (await response.json()) as { error?: { code: number } }
    return { status: response.status, code: error?.code ?? 0 }
  }
})

describe('a database that another process holds', () => {
  /** A statement waits 5 and 20 seconds; eight that wait one after the other would take far longer than this. */
  const REFUSED_WITHIN_MS = { SQLite: 12_000, PostgreSQL: 32_000 }
  const create = (server: Server) => {
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify({ filename: 'a.txt', content_type: 'text/plain', size_bytes: 5 })
    return server.call('/v3/attachments', { method: 'POST', headers, body })
  }

  /** Until it is disposed of, nobody else gets at any table. */
  async function hold(server: Server): Promise<AsyncDisposable> {
    const { SATCHEL_DATABASE_URL: url } = server.env
    if (url === undefined) {
      const database = new DatabaseSync(join(server.dataDir, 'satchel.sqlite'))
      database.exec('pragma busy_timeout = 5000')
      database.exec('begin exclusive')
      return { [Symbol.asyncDispose]: async () => database.close() }
    }
    const tables = Object.keys(await countRows(server)).map((name) => `"${name}"`)
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    await client.query(`begin; lock table ${tables.join(', ')} in access exclusive mode`)
    return { [Symbol.asyncDispose]: () => client.end() }
  }

  test('for a second: requests wait, and succeed', async () => {
    await using server = await startServer()
    const pending = await createText(server.client(), 5)
    const held = await hold(server)
    const began = Date.now()
    const waiting = Promise.all([create(server), create(server), put(pending, 'hello')])
    await sleep(1_000)
    await held[Symbol.asyncDispose]()
    for (const response of await waiting) assert.equal(response.status, 200)
    assert.ok(Date.now() - began >= 1_000)
    assert.equal((await download(pending.download_url)).toString(), 'hello')
  })

  test('for long: 503 with 3001 and Retry-After, while the server answers all that needs no database at once', async (t) => {
    await using server = await startServer()
    const pending = await createText(server.client(), 5)
    const slowest = { healthz: 0, refusal: 0 }
    const held = await hold(server)
    const began = Date.now()
    const waiting = Promise.all(
      Array.from({ length: 8 }, async () => {
        const response = await create(server)
        slowest.refusal = Math.max(slowest.refusal, Date.now() - began)
        return response
      }),
    )
    const upload = put(pending, 'hello')
    let isOver = false
    const asking = (async () => {
      while (!isOver) {
        const asked = Date.now()
        assert.equal((await fetch(`${server.api}/healthz`)).status, 200)
        slowest.healthz = Math.max(slowest.healthz, Date.now() - asked)
        await sleep(50)
      }
    })()
    const responses = await waiting
    const refusedUpload = await upload
    isOver = true
    await asking
    await held[Symbol.asyncDispose]()
    t.diagnostic(`slowest healthz ${slowest.healthz} ms, last of eight refusals after ${slowest.refusal} ms`)
    for (const response of responses) {
      assert.equal(response.status, 503)
      assert.equal(response.headers.get('retry-after'), '1')
      assert.equal(((await response.json()) as { error: { code: number } }).error.code, 3001)
    }
    assert.equal(refusedUpload.status, 503)
    assert.match(await refusedUpload.text(), /<Code>ServiceUnavailable</)
    assert.ok(slowest.healthz < 1_000, 'the event loop was blocked')
    assert.ok(slowest.refusal < REFUSED_WITHIN_MS[DATABASE], 'requests must not wait one after the other')
    await until('it works again', async () => (await create(server)).status === 200)
    assert.deepEqual(await filesIn(server.dataDir, 'files/tmp'), [])
    assert.equal((await put(pending, 'hello')).status, 200)
  })
})
