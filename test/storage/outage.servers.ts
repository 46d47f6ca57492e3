/**
 * The bucket goes away under load, by refusing connections and by answering nothing, and comes back. Callers see answers
 * that say "try again", never anything else; afterwards all is well without anybody's help. Direct and through the edge.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { jpeg } from '../fixtures/media/files.ts'
import { S3_KINDS, type S3Server, startS3 } from '../support/s3.ts'
import { type Server, startServer } from '../support/satchel.ts'
import { eventually } from '../support/scene.ts'

const OUTAGE_MS = Number(process.env.TEST_OUTAGE_MS ?? 30_000)
const LOAD_PAUSE_MS = 40

type Answer = { what: string; status: number; code: string; ms: number; at: number; retryAfter: string | null }
type Slot = Awaited<ReturnType<ReturnType<Server['client']>['attachments']['create']>>

const ways = [
  { kind: 'versitygw', uploads: 'direct', how: 'refuses connections' },
  { kind: 'versitygw', uploads: 'proxy', how: 'answers nothing' },
  { kind: 'rclone', uploads: 'direct', how: 'answers nothing' },
  { kind: 'rclone', uploads: 'proxy', how: 'refuses connections' },
] as const
assert.deepEqual([...new Set(ways.map(({ kind }) => kind))], S3_KINDS)

for (const { kind, uploads, how } of ways)
  describe(`${kind} ${how} for ${OUTAGE_MS / 1000} s, uploads ${uploads}`, () => {
    let s3: S3Server
    let server: Server
    before(async () => {
      s3 = await startS3(kind)
      server = await startServer({ env: { ...s3.env(), SATCHEL_UPLOADS: uploads, SATCHEL_LOG_LEVEL: 'warn' } })
    })
    after(async () => {
      await server?.[Symbol.asyncDispose]()
      await s3?.[Symbol.asyncDispose]()
    })

    const goAway = async () => (how === 'answers nothing' ? s3.freeze() : await s3.stop())
    const comeBack = async () => (how === 'answers nothing' ? s3.thaw() : await s3.start())

    test('answers are retryable while it is away, and right when it is back', { timeout: 600_000 }, async (t) => {
      const answers: Answer[] = []
      const bytes = Buffer.concat([jpeg(), randomBytes(50_000)])
      const acknowledged = { uploads: [] as Slot[], messages: [] as string[] }

      async function note(what: string, work: () => Promise<Response>): Promise<Response | undefined> {
        const began = performance.now()
        try {
          const answer = await work()
          const text = answer.ok ? '' : await answer.text()
          const code = /"code":(\d+)/.exec(text)?.[1] ?? /<Code>(\w+)/.exec(text)?.[1] ?? ''
          const ms = performance.now() - began
          answers.push({
            what,
            status: answer.status,
            code,
            ms,
            at: began,
            retryAfter: answer.headers.get('retry-after'),
          })
          return answer
        } catch {
          // The connection itself: of our own doing only when the bucket is what the client talks to.
          answers.push({ what, status: 0, code: '', ms: performance.now() - began, at: began, retryAfter: null })
          return undefined
        }
      }

      async function create(): Promise<Slot> {
        const body = { filename: 'photo.jpg', content_type: 'image/jpeg', size_bytes: bytes.length }
        const headers = { 'content-type': 'application/json' }
        const made = await note('create', () =>
          server.call('/v3/attachments', { method: 'POST', headers, body: JSON.stringify(body) }),
        )
        assert.equal(made?.status, 200, 'creating asks nobody but the database')
        return (await made.json()) as Slot
      }
      async function upload(slot: Slot): Promise<Response | undefined> {
        const answer = await note('upload', () =>
          fetch(slot.upload_url, {
            method: 'PUT',
            headers: slot.required_headers,
            body: bytes,
            signal: AbortSignal.timeout(45_000),
          }),
        )
        if (answer?.ok) acknowledged.uploads.push(slot)
        return answer
      }
      const retrieve = (slot: Slot) => note('retrieve', () => server.call(`/v3/attachments/${slot.attachment_id}`))

      async function read(slot: Slot): Promise<void> {
        const answer = await note('download', () => fetch(slot.download_url))
        if (answer?.status !== 200) return
        // An answer that had begun may be cut off, but is never wrong.
        const body = await answer.arrayBuffer().then(Buffer.from, () => undefined)
        assert.ok(body === undefined || body.equals(bytes))
      }

      async function send(slot: Slot): Promise<void> {
        const answer = await note('send', () => {
          const message = { parts: [{ type: 'media', attachment_id: slot.attachment_id }] }
          return server.call('/v3/chats', {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ from: server.phoneNumbers[0], to: ['+14155550199'], message }),
          })
        })
        if (!answer?.ok) return
        const { chat } = (await answer.json()) as { chat: { message: { id: string } } }
        acknowledged.messages.push(chat.message.id)
      }

      const known = await create()
      assert.equal((await upload(known))?.status, 200)
      assert.equal((await retrieve(known))?.status, 200)
      const waiting = await create()
      if (uploads === 'direct') assert.equal((await upload(waiting))?.status, 200)

      let isLoaded = true
      const load = Array.from({ length: 4 }, async (_, i) => {
        while (isLoaded) {
          const slot = i % 2 === 0 ? await create() : known
          if (slot !== known) await upload(slot)
          await retrieve(slot)
          await Promise.all([read(known), retrieve(waiting), send(slot)])
          await sleep(LOAD_PAUSE_MS)
        }
      })
      await sleep(1_500)
      const from = performance.now()
      await goAway()
      await sleep(OUTAGE_MS)
      await comeBack()
      const to = performance.now()
      await sleep(8_000)
      isLoaded = false
      await Promise.all(load)

      const during = answers.filter(({ at, ms }) => at + ms > from && at < to)
      const failed = during.filter(({ status }) => status >= 500)
      assert.ok(failed.length > 0, 'the outage was felt')
      for (const { what, status, code, ms, retryAfter } of during) {
        const seen = `${what}: ${status} ${code} after ${Math.round(ms)} ms`
        assert.ok(ms < 45_000, seen)
        if (what === 'upload' && uploads === 'direct') continue
        if (status >= 500) {
          assert.equal(status, 503, seen)
          assert.equal(code, what === 'upload' ? 'ServiceUnavailable' : '3001', seen)
          if (what !== 'upload') assert.equal(retryAfter, '1', seen)
        } else if (status >= 400) assert.deepEqual([what, status, code], ['send', 404, '2007'], seen)
        else assert.ok([200, 201, 202].includes(status), seen)
      }
      // Well after it is back nothing fails any more.
      for (const { what, status, code, at } of answers)
        if (at > to + 6_000) assert.ok(status >= 200 && status < 300, `${what}: ${status} ${code} afterwards`)

      const counts = Map.groupBy(during, ({ what, status, code }) => `${what} ${status} ${code}`.trim())
      t.diagnostic([...counts].map(([what, { length }]) => `${length} x ${what}`).join(', '))
      const statusOf = async ({ attachment_id }: Slot) =>
        (await server.client().attachments.retrieve(attachment_id)).status
      assert.equal(await statusOf(waiting), uploads === 'direct' ? 'complete' : 'pending')
      for (const slot of acknowledged.uploads) {
        assert.equal(await statusOf(slot), 'complete', 'an upload that was acknowledged')
        assert.ok(Buffer.from(await (await fetch(slot.download_url)).arrayBuffer()).equals(bytes), slot.download_url)
      }
      for (const id of acknowledged.messages) {
        const { is_delivered } = await eventually(
          () => server.client().messages.retrieve(id),
          (message) => message.is_delivered,
        )
        assert.ok(is_delivered, `message ${id}`)
      }
      const { uploads: stored, messages } = acknowledged
      assert.ok(stored.length > 1 && messages.length > 1)
      t.diagnostic(`all there afterwards: ${stored.length} uploads, ${messages.length} messages`)
      const last = await create()
      assert.equal((await upload(last))?.status, 200)
      assert.equal(await statusOf(last), 'complete')
      assert.ok(Buffer.from(await (await fetch(last.download_url)).arrayBuffer()).equals(bytes))
      assert.equal((await fetch(`${server.api}/readyz`)).status, 200)
      assert.equal(server.process.exitCode, null)
    })
  })

test('a server starts without its bucket, and works once it is there', { timeout: 300_000 }, async () => {
  await using s3 = await startS3('versitygw')
  await s3.stop()
  await using server = await startServer({ env: s3.env() })
  assert.equal((await fetch(`${server.api}/readyz`)).status, 503)
  const bytes = jpeg()
  const made = await server
    .client()
    .attachments.create({ filename: 'photo.jpg', content_type: 'image/jpeg', size_bytes: bytes.length })
  await s3.start()
  const put = await fetch(made.upload_url, { method: 'PUT', headers: made.required_headers, body: bytes })
  assert.equal(put.status, 200)
  assert.equal((await server.client().attachments.retrieve(made.attachment_id)).status, 'complete')
  assert.equal((await fetch(`${server.api}/readyz`)).status, 200)
})

test('a bucket that is not there, or not ours, is said at the start', async () => {
  await using s3 = await startS3('versitygw')
  const missing = { ...s3.env(), SATCHEL_STORAGE_URL: s3.url().replace('satchel-test', 'another-bucket') }
  await assert.rejects(startServer({ env: missing }), /SATCHEL_STORAGE_URL: .*another-bucket/)
  const foreign = { ...s3.env(), SATCHEL_S3_SECRET_ACCESS_KEY: 'not-the-secret' }
  await assert.rejects(startServer({ env: foreign }), /SATCHEL_STORAGE_URL: .*credentials/)
})
