/**
 * A walk through what Satchel does, with the official SDK against a real server on free ports and a temporary data folder.
 * Each line says what was sent and what came back; the exit code is 0 only if everything behaved.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import LinqAPIV3 from '@linqapp/sdk'
import { makeCertificates } from '../test/support/certificates.ts'
import { type Server, startServer } from '../test/support/satchel.ts'
import { picture, tone, webp } from './files.ts'

const HELP = `npm run demo

Starts Satchel on free ports with a temporary data folder and walks through uploads, sends, downloads and refusals with
the official SDK. Exit code 0 only if everything behaved. Takes a few seconds and leaves nothing behind.
`

if (parseArgs({ options: { help: { type: 'boolean', short: 'h' } } }).values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}

let failures = 0
const say = (text: string) => process.stdout.write(`${text}\n`)

/** Runs one step and prints one line: what `work` says came back, or how it went wrong. */
async function step<T>(sent: string, work: () => Promise<[string, T]>): Promise<T> {
  try {
    const [cameBack, result] = await work()
    say(`  ok    ${sent} -> ${cameBack}`)
    return result
  } catch (error) {
    failures++
    say(`  FAIL  ${sent} -> ${error instanceof Error ? error.message : String(error)}`)
    throw error
  }
}

/** A step that has to be refused with this status and code. */
async function refusal(sent: string, expected: string, work: () => Promise<unknown>): Promise<void> {
  try {
    const cameBack = await work().then(
      () => 'accepted',
      (error: unknown) => describeError(error),
    )
    if (!cameBack.startsWith(expected)) throw new Error(`expected ${expected}, got ${cameBack}`)
    say(`  ok    ${sent} -> refused: ${cameBack}`)
  } catch (error) {
    failures++
    say(`  FAIL  ${sent} -> ${error instanceof Error ? error.message : String(error)}`)
  }
}

function describeError(error: unknown): string {
  if (!(error instanceof LinqAPIV3.APIError)) return String(error)
  const { error: body } = error.error as { error: { code: number; message: string } }
  return `${error.status} / ${body.code} ${body.message}`
}

/** The PUT of a pre-upload, with a progress bar when a person is watching. */
async function upload(url: string, headers: Record<string, string>, file: Buffer): Promise<string> {
  const put = request(url, { method: 'PUT', headers })
  const answered = once(put, 'response')
  put.on('error', () => {}) // a refusal may close the line while the body is still on its way
  for (let sent = 0; sent < file.length; sent += 65_536) {
    if (!put.write(file.subarray(sent, sent + 65_536))) await Promise.race([once(put, 'drain'), answered])
    drawBar(Math.min(sent + 65_536, file.length) / file.length)
  }
  put.end()
  const [response] = await answered
  let body = ''
  for await (const chunk of response) body += chunk
  const code = /<Code>(.*)<\/Code>/.exec(body)?.[1]
  return code ? `${response.statusCode} ${code}` : String(response.statusCode)
}

function drawBar(share: number): void {
  if (!process.stdout.isTTY) return
  const done = Math.round(share * 40)
  process.stdout.write(`\r        [${'#'.repeat(done)}${' '.repeat(40 - done)}] ${Math.round(share * 100)} %`)
  if (share >= 1) process.stdout.write('\r\x1b[K')
}

/** Somebody's web server on loopback, with TLS and a certificate of its own authority. */
async function openOrigin(files: Record<string, Buffer>) {
  const certificates = await makeCertificates()
  const server = createServer(certificates, (incoming, answer) => {
    const file = files[incoming.url ?? '']
    answer.writeHead(file ? 200 : 404, file ? { 'content-length': file.length } : {}).end(file)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    ca: certificates.ca,
    host: `localhost:${port}`,
    url: (path: string) => `https://localhost:${port}${path}`,
    close: () => server.close(),
  }
}

const kilobytes = (bytes: number) => `${Math.round(bytes / 1024).toLocaleString('en')} KB`
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

async function walk(server: Server, origin: { url: (path: string) => string }, photo: Buffer): Promise<void> {
  const client = server.client()
  const [from] = server.phoneNumbers
  if (!from) throw new Error('the server has no phone numbers')

  say('\nA photo by pre-upload')
  const declared = { filename: 'harbour.png', content_type: 'image/png' as const, size_bytes: photo.length }
  const slot = await step(
    `create: ${declared.filename}, ${declared.content_type}, ${kilobytes(photo.length)}`,
    async () => {
      const created = await client.attachments.create(declared)
      return [`attachment ${created.attachment_id}, upload before ${created.expires_at}`, created]
    },
  )
  await step(`PUT of ${kilobytes(photo.length)} with ${Object.keys(slot.required_headers).join(' and ')}`, async () => {
    const status = await upload(slot.upload_url, slot.required_headers, photo)
    if (status !== '200') throw new Error(`expected 200, got ${status}`)
    const { status: state } = await client.attachments.retrieve(slot.attachment_id)
    if (state !== 'complete') throw new Error(`the attachment is ${state}`)
    return ['200, the attachment is complete', undefined]
  })

  say('\nThe same id sent three times')
  const { chat } = await step(`first message to +14155550123 from ${from}`, async () => {
    const parts = [
      { type: 'text' as const, value: 'The harbour this morning' },
      { type: 'media' as const, attachment_id: slot.attachment_id },
    ]
    const created = await client.chats.create({ from, to: ['+14155550123'], message: { parts } })
    return [`chat ${created.chat.id}, message ${created.chat.message.delivery_status}`, created]
  })
  const media = { type: 'media' as const, attachment_id: slot.attachment_id }
  for (const time of ['second', 'third']) {
    await step(`${time} message with the same attachment_id`, async () => {
      const { message } = await client.chats.messages.send(chat.id, { message: { parts: [media] } })
      const status = await settled(client, message.id)
      if (status !== 'delivered') throw new Error(`the message is ${status}`)
      return [`message ${message.id} ${status}`, undefined]
    })
  }

  say('\nMedia by direct URL')
  await step(`message with ${origin.url('/cat.png')}`, async () => {
    const { message } = await client.chats.messages.send(chat.id, {
      message: { parts: [{ type: 'media', url: origin.url('/cat.png') }] },
    })
    const [part] = message.parts ?? []
    if (part?.type !== 'media') throw new Error('the answer has no media part')
    const served = Buffer.from(await (await fetch(part.url)).arrayBuffer())
    if (sha256(served) !== sha256(photo)) throw new Error('the CDN serves other bytes')
    return [`downloaded, ${part.mime_type}, served from ${new URL(part.url).origin} byte for byte`, undefined]
  })
  await step(`voice memo with ${origin.url('/memo.wav')}`, async () => {
    const { voice_memo: sent } = await client.chats.sendVoicememo(chat.id, { voice_memo_url: origin.url('/memo.wav') })
    return [
      `${sent.voice_memo.filename}, ${sent.voice_memo.mime_type}, ${kilobytes(sent.voice_memo.size_bytes)}`,
      undefined,
    ]
  })

  say('\nDownload from the CDN')
  await step('GET with Range: bytes=0-1', async () => {
    const part = await fetch(slot.download_url, { headers: { range: 'bytes=0-1' } })
    const bytes = Buffer.from(await part.arrayBuffer())
    if (part.status !== 206 || !bytes.equals(photo.subarray(0, 2)))
      throw new Error(`got ${part.status}, ${bytes.length} bytes`)
    return [`206, ${part.headers.get('content-range')}`, undefined]
  })
  await step('GET of the whole', async () => {
    const whole = await fetch(slot.download_url)
    const etag = whole.headers.get('etag')
    const bytes = Buffer.from(await whole.arrayBuffer())
    if (!bytes.equals(photo) || etag !== `"${sha256(photo)}"`) throw new Error('other bytes than were uploaded')
    return [`${whole.status}, ${kilobytes(bytes.length)}, ETag is the SHA-256 of what was uploaded`, undefined]
  })

  say('\nRefusals')
  const send = (url: string) => client.chats.messages.send(chat.id, { message: { parts: [{ type: 'media', url }] } })
  await refusal('create: photo.webp as image/webp', '400 / 5004', () =>
    client.attachments.create({ filename: 'photo.webp', content_type: 'image/webp', size_bytes: 1000 }),
  )
  await refusal('a WebP that is called photo.png, uploaded and sent', '400 / 5004', async () => {
    const disguised = webp()
    const created = await client.attachments.create({
      filename: 'photo.png',
      content_type: 'image/png',
      size_bytes: disguised.length,
    })
    await upload(created.upload_url, created.required_headers, disguised)
    await client.chats.messages.send(chat.id, {
      message: { parts: [{ type: 'media', attachment_id: created.attachment_id }] },
    })
  })
  await refusal('create: a film of 101 MB', '400 / 5005', () =>
    client.attachments.create({ filename: 'film.mp4', content_type: 'video/mp4', size_bytes: 101 * 1024 * 1024 }),
  )
  await refusal('PUT with another Content-Type than was signed', '403 SignatureDoesNotMatch', async () => {
    const created = await client.attachments.create(declared)
    const status = await upload(created.upload_url, { ...created.required_headers, 'Content-Type': 'image/gif' }, photo)
    if (status !== '200') throw status
  })
  await refusal('message with https://169.254.169.254/latest/meta-data', '400 / 1005', () =>
    send('https://169.254.169.254/latest/meta-data'),
  )
  await refusal('message with a file of 11 MB by URL', '400 / 5005', () => send(origin.url('/large.png')))
}

async function settled(client: LinqAPIV3, id: string): Promise<string> {
  for (let tries = 0; tries < 100; tries++) {
    const { delivery_status } = await client.messages.retrieve(id)
    if (delivery_status === 'delivered' || delivery_status === 'failed') return delivery_status
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return 'not delivered after 5 s'
}

const photo = picture(1600, 1000)
const memo = tone(5)
const origin = await openOrigin({ '/cat.png': photo, '/memo.wav': memo, '/large.png': Buffer.alloc(11 * 1024 * 1024) })
const folder = await mkdtemp(join(tmpdir(), 'satchel-demo-'))
try {
  const caFile = join(folder, 'ca.pem')
  await writeFile(caFile, origin.ca)
  await using server = await startServer({ env: { NODE_EXTRA_CA_CERTS: caFile, SATCHEL_EGRESS_ALLOW: origin.host } })
  say(`Satchel is running for this demonstration.\n  API ${server.api}/api/partner\n  CDN ${server.cdn}`)
  await walk(server, origin, photo).catch(() => {})
} finally {
  origin.close()
  await rm(folder, { recursive: true, force: true })
}
say(failures === 0 ? '\nEverything behaved.' : `\n${failures} of the steps went wrong.`)
process.exitCode = failures === 0 ? 0 : 1
