/**
 * Every way into the system judges a file alike: `satchel check`, the pre-upload and the direct URL. With hand-made files and
 * disguises of this repository, and with a larger collection of real files when it lies beside the repository.
 */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import LinqAPIV3 from '@linqapp/sdk'
import { box, cfb, ftyp, zip } from '../fixtures/media/containers.ts'
import { acceptedFiles, DOCX_MAIN, exeLike, gif, office, refusedFiles, svg, utf16be } from '../fixtures/media/files.ts'
import { type MediaOrigin, openMediaOrigin } from '../support/media-origin.ts'
import { runCli, type Server, startServer } from '../support/satchel.ts'

type Client = ReturnType<Server['client']>

let origin: MediaOrigin
let server: Server
let client: Client
let chatId: string
let folder: string

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'satchel-doors-'))
  origin = await openMediaOrigin()
  server = await startServer({ env: { ...origin.env, SATCHEL_LOG_LEVEL: 'warn' } })
  client = server.client()
  const [from = ''] = server.phoneNumbers
  const message = { parts: [{ type: 'text' as const, value: 'hello' }] }
  chatId = (await client.chats.create({ from, to: ['+14155550123'], message })).chat.id
})

after(async () => {
  await server[Symbol.asyncDispose]()
  await origin[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

/** What came out: the reported type, or the contract's code. */
type Outcome = string | number

async function outcomeOf(work: () => Promise<string>): Promise<Outcome> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof LinqAPIV3.APIError) return (error.error as { error: { code: number } }).error.code
    throw error
  }
}

async function byUpload(filename: string, declared: string, file: Buffer): Promise<Outcome> {
  return await outcomeOf(async () => {
    const slot = await client.attachments.create({
      filename,
      content_type: declared as 'image/png',
      size_bytes: file.length,
    })
    const put = await fetch(slot.upload_url, {
      method: 'PUT',
      headers: slot.required_headers,
      body: new Uint8Array(file),
    })
    assert.equal(put.status, 200)
    return await send({ type: 'media', attachment_id: slot.attachment_id }, file)
  })
}

let urls = 0
async function byUrl(filename: string, file: Buffer): Promise<Outcome> {
  const url = origin.serve(`/${urls++}/${encodeURIComponent(filename)}`, { body: new Uint8Array(file) })
  return await outcomeOf(() => send({ type: 'media', url }, file))
}

/** The type that a sent file is reported and served under; the CDN must give back the very bytes. */
async function send(part: { type: 'media'; attachment_id?: string; url?: string }, file: Buffer): Promise<string> {
  const { message } = await client.chats.messages.send(chatId, { message: { parts: [part] } })
  const [sent] = message.parts ?? []
  assert.ok(sent?.type === 'media')
  const served = await fetch(sent.url)
  assert.equal(served.headers.get('content-type'), sent.mime_type)
  assert.ok(Buffer.from(await served.arrayBuffer()).equals(file))
  return sent.mime_type
}

async function byCheck(filename: string, declared: string, file: Buffer): Promise<Outcome> {
  const path = join(folder, filename)
  await writeFile(path, file)
  const { code, stdout } = await runCli(['check', path, '--declared', declared, '--json'])
  const [{ upload }] = JSON.parse(stdout)
  assert.equal(code, upload.accepted ? 0 : 1)
  return upload.accepted ? upload.contentType : upload.code
}

const words = Buffer.alloc(400_000, 'All work and no play. ')
const jar = zip([{ name: 'META-INF/MANIFEST.MF', data: 'Main-Class: A' }, { name: 'A.class' }])
const docx = 'application/vnd.openxmlformats-officedocument.wordprocessingml.document'
const made = {
  ...acceptedFiles(),
  ...Object.fromEntries(Object.entries(refusedFiles()).map(([name, [file]]) => [name, file])),
}
const madeFile = (name: string): Buffer => {
  const file = made[name]
  assert.ok(file, name)
  return file
}

/** What it is, what it is called, what it is declared as, the file, and what every door must say. */
const disguises: [string, string, string, Buffer, Outcome][] = [
  ['a WebP', 'photo.png', 'image/png', madeFile('image.webp'), 5004],
  [
    'AVIF with an HEIF brand',
    'photo.heif',
    'image/heif',
    Buffer.concat([ftyp('mif1', 'mif1', 'avif'), box('meta')]),
    5004,
  ],
  ['a Windows program', 'invoice.pdf', 'application/pdf', exeLike, 5004],
  ['an ELF program', 'invoice.pdf', 'application/pdf', madeFile('program.elf'), 5004],
  ['a JAR that begins like a docx', 'letter.docx', docx, office(DOCX_MAIN, [{ name: 'META-INF/MANIFEST.MF' }]), 5004],
  [
    'an APK with an EPUB mimetype',
    'book.epub',
    'application/epub+zip',
    zip([{ name: 'mimetype', data: 'application/epub+zip' }, { name: 'AndroidManifest.xml' }]),
    5004,
  ],
  [
    'a PDF that is a ZIP',
    'letter.pdf',
    'application/pdf',
    Buffer.concat([madeFile('letter.pdf'), zip([{ name: 'a' }])]),
    5004,
  ],
  ['a GIF that is a JAR', 'smile.gif', 'image/gif', Buffer.concat([gif(), jar]), 5004],
  ['an SVG behind a BOM', 'note.txt', 'text/plain', Buffer.from(`\ufeff${svg}`), 5004],
  ['an SVG behind a comment', 'note.txt', 'text/plain', Buffer.from(`<!-- ${'x'.repeat(100_000)} -->${svg}`), 5004],
  ['an SVG behind a DOCTYPE', 'page.html', 'text/html', Buffer.from(`<!DOCTYPE svg [<!ENTITY a "<p>">]>${svg}`), 5004],
  ['an SVG in UTF-16', 'note.txt', 'text/plain', utf16be(svg), 5004],
  ['an SVG in gzip', 'drawing.txt', 'text/plain', gzipSync(svg), 5004],
  ['a program behind 400 KB of text', 'story.txt', 'text/plain', Buffer.concat([words, exeLike]), 5004],
  ['a script', 'story.txt', 'text/plain', Buffer.from('#!/bin/sh\necho hello\n'), 5004],
  ['a docm', 'letter.docx', docx, madeFile('macro.docm'), 5004],
  ['an installer', 'letter.doc', 'application/msword', madeFile('setup.msi'), 5004],
  [
    'an Outlook message',
    'letter.doc',
    'application/msword',
    cfb(['__properties_version1.0', '__substg1.0_001A001F']),
    5004,
  ],
  ['a PNG', 'photo.jpg', 'image/jpeg', madeFile('picture.png' in made ? 'picture.png' : firstOf('.png')), 5006],
  [
    'letters that begin as a GIF does',
    'gifs.txt',
    'text/plain',
    Buffer.from('GIF89a is a format, and GIFs are fun.\n'),
    'text/plain',
  ],
  [
    'text with a script in its middle',
    'howto.txt',
    'text/plain',
    Buffer.concat([words, Buffer.from('\n#!/bin/sh\nls\n')]),
    'text/plain',
  ],
]

function firstOf(extension: string): string {
  return Object.keys(acceptedFiles()).find((name) => name.endsWith(extension)) ?? ''
}

for (const [what, filename, declared, file, expected] of disguises) {
  test(`${what} called ${filename} comes to ${expected} through all three doors`, async () => {
    assert.equal(await byUpload(filename, declared, file), expected)
    assert.equal(await byUrl(filename, file), expected)
    assert.equal(await byCheck(filename, declared, file), expected)
  })
}

for (const [filename, [file]] of Object.entries(refusedFiles())) {
  if (file.length === 0) continue
  test(`${filename} is refused by upload as a picture and by URL under its own name`, async () => {
    assert.equal(await byUpload('photo.png', 'image/png', file), 5004)
    assert.equal(await byUrl(filename, file), 5004)
  })
}

const samples = fileURLToPath(new URL('../../../shared/samples/', import.meta.url))
const collected = existsSync(`${samples}MANIFEST.csv`)
  ? readFileSync(`${samples}MANIFEST.csv`, 'utf8').trim().split('\n').slice(1)
  : []

for (const line of collected) {
  const [path = '', verdict = '', contentType = ''] = line.split(',')
  test(`${path} of the collection is ${verdict === 'accept' ? `sent as ${contentType}` : 'refused'} by upload and by URL`, async () => {
    const file = readFileSync(samples + path)
    const name = basename(path)
    if (verdict === 'accept') {
      assert.equal(await byUpload(name, contentType, file), contentType)
      assert.equal(await byUrl(name, file), contentType)
    } else {
      // Nobody can declare an upload of nothing.
      assert.equal(await byUpload('photo.png', 'image/png', file), file.length === 0 ? 1005 : 5004)
      assert.equal(await byUrl(name, file), 5004)
    }
  })
}
