/** Contract 1.7: the ephemeral tier of a partner and of a line, with signed addresses and a hard end after 24 hours. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { jpeg, png } from '../fixtures/media/files.ts'
import { makeCertificates } from '../support/certificates.ts'
import { ask } from '../support/database.ts'
import { filesBelow } from '../support/packs.ts'
import type { WebhookEvent } from '../support/receiver.ts'
import { advance, receive, sandbox } from '../support/sandbox.ts'
import { runCli, type Server, startServer } from '../support/satchel.ts'
import { until } from '../support/wire.ts'

const origin = await openOrigin()
const server = await startServer({ env: { SATCHEL_EGRESS_ALLOW: 'localhost:*', NODE_EXTRA_CA_CERTS: origin.ca } })
after(async () => {
  await server[Symbol.asyncDispose]()
  await origin.close()
})
const [permanentLine = '', ephemeralLine = ''] = server.phoneNumbers

async function cli(...args: string[]) {
  const result = await runCli(args, server.env)
  assert.equal(result.code, 0, result.stderr)
  return result.stdout
}

const made = JSON.parse(
  await cli('partners', 'create', '--name', 'E', '--phone', '+12025550180', '--ephemeral', '--json'),
)
const ephemeral = server.client({ apiKey: made.api_key })
const permanent = server.client()
await cli('lines', 'update', ephemeralLine, '--ephemeral', 'on')

/** A host that has one picture. */
async function openOrigin() {
  const { ca, key, cert } = await makeCertificates()
  const folder = await mkdtemp(join(tmpdir(), 'satchel-ca-'))
  await writeFile(join(folder, 'ca.pem'), ca)
  const host = createServer({ key, cert }, (_, response) => response.setHeader('content-type', 'image/png').end(png()))
  await once(host.listen(0, '127.0.0.1'), 'listening')
  return {
    ca: join(folder, 'ca.pem'),
    url: `https://localhost:${(host.address() as AddressInfo).port}/picture.png`,
    async close() {
      host.close()
      await rm(folder, { recursive: true })
    },
  }
}

type Client = ReturnType<Server['client']>

async function upload(client: Client, file = jpeg(), filename = 'photo (1).jpg') {
  const slot = await client.attachments.create({ filename, content_type: 'image/jpeg', size_bytes: file.length })
  const answer = await fetch(slot.upload_url, { method: 'PUT', headers: slot.required_headers, body: file })
  assert.equal(answer.status, 200)
  return slot
}

async function status(url: string, init?: RequestInit): Promise<number> {
  const answer = await fetch(url, init)
  await answer.arrayBuffer()
  return answer.status
}

const permanentForm = (url: string) => url.replace('/ephemeral/', '/attachments/').split('?', 1)[0] ?? ''
const isSigned = (url: string) =>
  /\/ephemeral\/partners\/[0-9a-f-]{36}\/[0-9a-f-]{36}\/[^/?]+\?expires=\d+&signature=[0-9a-f]{64}$/.test(url)

/** The webhook's body for a message that came in. Events of earlier tests may still be written meanwhile, so it is told by its id. */
async function receivedEvent(messageId: string): Promise<WebhookEvent> {
  const headers = { 'last-event-id': '00000000-0000-7000-8000-000000000000' }
  const stream = await sandbox(server, '/events', { headers, signal: AbortSignal.timeout(60_000) })
  let text = ''
  for await (const chunk of stream.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    const [rest = '', ...lines] = (text + chunk).split('\n').reverse()
    text = rest
    for (const line of lines) {
      if (!line.startsWith('data: ')) continue
      const event = JSON.parse(line.slice('data: '.length)) as WebhookEvent
      if (event.event_type === 'message.received' && event.data.id === messageId) return event
    }
  }
  assert.fail(`no event tells of ${messageId}`)
}

test('an ephemeral partner gets signed addresses, and its files are at no other', async () => {
  const slot = await upload(ephemeral)
  assert.ok(isSigned(slot.download_url), slot.download_url)
  const answer = await fetch(slot.download_url, { headers: { range: 'bytes=0-1' } })
  assert.equal(answer.status, 206)
  assert.equal(answer.headers.get('cache-control'), 'no-store')
  assert.deepEqual(Buffer.from(await answer.arrayBuffer()), jpeg().subarray(0, 2))
  assert.equal(await status(slot.download_url, { method: 'HEAD' }), 200)
  assert.equal(await status(permanentForm(slot.download_url)), 404)
})

test('an address that was changed in any part is refused before anything is looked up', async () => {
  const { download_url: url } = await upload(ephemeral)
  const changes = [
    url.replace(/signature=.{4}/, 'signature=0000'),
    url.replace(/expires=\d+/, 'expires=9999999999'),
    url.replace('photo', 'other'),
    url.replace(made.partner_id, '00000000-0000-7000-8000-000000000000'),
    url.split('&', 1)[0] ?? '',
    url.split('?', 1)[0] ?? '',
    `${url}&expires=1`,
  ]
  for (const changed of changes) assert.equal(await status(changed), 403, changed)
  const answer = await fetch(changes[0] ?? '')
  const { error } = (await answer.json()) as { error: { code: number } }
  assert.deepEqual([error.code, answer.headers.get('cache-control')], [2005, 'no-store'])
})

test('a permanent attachment has no signed address', async () => {
  const slot = await upload(permanent)
  assert.equal(await status(slot.download_url), 200)
  const { download_url: signed } = await upload(ephemeral)
  const mixed = slot.download_url.replace('/attachments/', '/ephemeral/') + (signed.match(/\?.*$/)?.[0] ?? '')
  assert.equal(await status(mixed), 403)
})

test('every retrieve signs anew, and an address ends after 15 minutes', async () => {
  const slot = await upload(ephemeral)
  await advance(server, 14 * 60)
  assert.equal(await status(slot.download_url), 200)
  const again = await ephemeral.attachments.retrieve(slot.attachment_id)
  assert.notEqual(again.download_url, slot.download_url)
  await advance(server, 61)
  assert.equal(await status(slot.download_url), 403)
  assert.equal(await status(again.download_url ?? ''), 200)
})

test('after 24 hours an attachment is gone for every use, and its bytes and its row are removed', async () => {
  const slot = await upload(ephemeral)
  const { chat } = await ephemeral.chats.create({
    from: '+12025550180',
    to: ['+14155550101'],
    message: { parts: [{ type: 'media', attachment_id: slot.attachment_id }] },
  })
  const [sent] = chat.message.parts
  assert.ok(sent?.type === 'media' && isSigned(sent.url), JSON.stringify(sent))
  assert.equal(await status(sent.url), 200)
  await advance(server, 86_400 - 60)
  const shown = await ephemeral.attachments.retrieve(slot.attachment_id)
  assert.equal(await status(shown.download_url ?? ''), 200)
  await advance(server, 61)
  await assert.rejects(ephemeral.attachments.retrieve(slot.attachment_id), { status: 404 })
  assert.equal(await status(shown.download_url ?? ''), 404)
  await assert.rejects(
    ephemeral.chats.messages.send(chat.id, {
      message: { parts: [{ type: 'media', attachment_id: slot.attachment_id }] },
    }),
    (error: { status: number; error: { error: { code: number } } }) =>
      error.status === 404 && error.error.error.code === 2003,
  )
  await assert.rejects(ephemeral.attachments.delete(slot.attachment_id), { status: 404 })
  const { messages } = await ephemeral.chats.messages.list(chat.id)
  const [part] = messages.at(-1)?.parts ?? []
  assert.deepEqual(part, {
    type: 'media',
    id: '',
    url: '',
    filename: '',
    mime_type: 'application/octet-stream',
    size_bytes: 0,
    reactions: [],
  })
  await until('the audit tells of it', async () => (await cli('audit', '--json')).includes(`${slot.attachment_id}`))
  const audit = (await cli('audit', '--partner', made.partner_id, '--json')).trim().split('\n')
  const entry = audit.map((line) => JSON.parse(line)).find((row) => row.attachment_id === slot.attachment_id)
  assert.deepEqual([entry?.reason, entry?.partner_id], ['vanished', made.partner_id])
  assert.equal((await cli('audit')).includes(`${slot.attachment_id}  vanished`), true)
})

test('an attachment counts as deleted when its hour has come, however late the job is', async () => {
  const slot = await upload(ephemeral)
  const id = `vanish:${slot.attachment_id}`
  const [job] = await ask(server, 'update jobs set run_at = run_at * 2 where id = $1 returning id', [id])
  assert.ok(job)
  await advance(server, 86_400)
  await assert.rejects(ephemeral.attachments.retrieve(slot.attachment_id), { status: 404 })
  await assert.rejects(ephemeral.attachments.delete(slot.attachment_id), { status: 404 })
  const isHeld = async () =>
    (await ask(server, 'select id from attachments where id = $1', [slot.attachment_id])).length === 1
  assert.ok(await isHeld())
  assert.equal(await status(slot.download_url), 403)
  await ask(server, 'update jobs set run_at = 0 where id = $1 returning id', [id])
  await until('the row is removed', async () => !(await isHeld()))
})

test('a file by URL and its message are ephemeral too', async () => {
  const slot = await upload(ephemeral)
  const { chat } = await ephemeral.chats.create({
    from: '+12025550180',
    to: ['+14155550106'],
    message: { parts: [{ type: 'media', url: origin.url }] },
  })
  const [part] = chat.message.parts
  assert.ok(part?.type === 'media' && isSigned(part.url), JSON.stringify(part))
  assert.equal(await status(part.url), 200)
  await advance(server, 86_400)
  await assert.rejects(ephemeral.attachments.retrieve(part.id), { status: 404 })
  await assert.rejects(ephemeral.attachments.retrieve(slot.attachment_id), { status: 404 })
})

test('on an ephemeral line an attachment of before becomes ephemeral with its first use', async () => {
  const slot = await upload(permanent)
  assert.equal(await status(slot.download_url), 200)
  const send = (from: string) =>
    permanent.chats.create({
      from,
      to: ['+14155550102'],
      message: { parts: [{ type: 'media', attachment_id: slot.attachment_id }] },
    })
  const [before] = (await send(permanentLine)).chat.message.parts
  assert.ok(before?.type === 'media' && !isSigned(before.url))
  const [used] = (await send(ephemeralLine)).chat.message.parts
  assert.ok(used?.type === 'media' && isSigned(used.url), JSON.stringify(used))
  assert.equal(await status(slot.download_url), 404)
  assert.ok(isSigned((await permanent.attachments.retrieve(slot.attachment_id)).download_url ?? ''))
  await advance(server, 86_400)
  await assert.rejects(permanent.attachments.retrieve(slot.attachment_id), { status: 404 })
})

test('an attachment that is older than a day keeps a day from its first use on an ephemeral line', async () => {
  const slot = await upload(permanent)
  await advance(server, 3 * 86_400)
  await permanent.chats.create({
    from: ephemeralLine,
    to: ['+14155550103'],
    message: { parts: [{ type: 'media', attachment_id: slot.attachment_id }] },
  })
  await advance(server, 86_400 - 60)
  await permanent.attachments.retrieve(slot.attachment_id)
  await advance(server, 61)
  await assert.rejects(permanent.attachments.retrieve(slot.attachment_id), { status: 404 })
})

test('media that comes in on an ephemeral line is signed for in the webhook, and vanishes', async () => {
  const media = [{ bytes: png(), filename: 'in.png' }]
  const { message_id } = await receive(server, { from: '+14155550104', to: ephemeralLine, media })
  const [told] = (await receivedEvent(message_id)).data.parts
  assert.ok(told?.type === 'media' && isSigned(told.url), JSON.stringify(told))
  assert.equal(await status(told.url), 200)
  const message = await permanent.messages.retrieve(message_id)
  const [part] = message.parts ?? []
  assert.ok(part?.type === 'media' && isSigned(part.url))
  assert.equal(part.id, told.id)
  await advance(server, 86_401)
  assert.equal(await status(part.url), 403)
  await assert.rejects(permanent.attachments.retrieve(part.id), { status: 404 })
})

test('a signed address of ours is taken as media, for its owner only', async () => {
  const { download_url: url } = await upload(ephemeral)
  const send = (client: Client, from: string) =>
    client.chats.create({ from, to: ['+14155550105'], message: { parts: [{ type: 'media', url }] } })
  const [part] = (await send(ephemeral, '+12025550180')).chat.message.parts
  assert.ok(part?.type === 'media' && isSigned(part.url))
  await assert.rejects(send(permanent, permanentLine), { status: 404 })
  const dead = permanentForm(url)
  await assert.rejects(
    ephemeral.chats.create({
      from: '+12025550180',
      to: ['+14155550105'],
      message: { parts: [{ type: 'media', url: dead }] },
    }),
    { status: 404 },
  )
})

test('switched off, what comes later is permanent and what was ephemeral still vanishes', async () => {
  const before = await upload(ephemeral)
  await cli('partners', 'update', made.partner_id, '--ephemeral', 'off')
  const later = await upload(ephemeral)
  assert.ok(!isSigned(later.download_url))
  await advance(server, 86_401)
  await assert.rejects(ephemeral.attachments.retrieve(before.attachment_id), { status: 404 })
  assert.equal(await status(later.download_url), 200)
})

test('in the end the storage holds what is permanent and nothing else', async () => {
  await advance(server, 86_401)
  const count = async () => (await filesBelow(join(server.dataDir, 'files'))).length
  await until('two objects are left', async () => (await count()) === 2)
  assert.match(await cli('sweep'), /2 objects .* 2 complete attachments\.\nEverything fits\./s)
})

test('the switches refuse what does not exist', async () => {
  assert.equal((await runCli(['partners', 'update', 'nobody', '--ephemeral', 'on'], server.env)).code, 1)
  assert.equal((await runCli(['lines', 'update', '+12025550999', '--ephemeral', 'on'], server.env)).code, 1)
  assert.equal((await runCli(['lines', 'update', ephemeralLine, '--ephemeral', 'maybe'], server.env)).code, 2)
  const [line] = JSON.parse(await cli('lines', 'list', '--json')).filter(
    (row: { phone_number: string }) => row.phone_number === ephemeralLine,
  )
  assert.equal(line.ephemeral, true)
})
