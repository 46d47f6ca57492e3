/** Contract 1.1: what a file may be called, and that it is found under that name. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { jpeg } from '../fixtures/media/files.ts'
import { assertRefused } from '../support/answers.ts'
import { startServer } from '../support/satchel.ts'
import { keptBy, postJson, upload } from '../support/scene.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const good = { filename: 'photo.jpg', content_type: 'image/jpeg', size_bytes: 245_760 } as const
const create = (body: unknown) => postJson(server, '/v3/attachments', body)

const refusals: [what: string, body: unknown, status: number, code: number, message: RegExp][] = [
  ['with an empty filename', { ...good, filename: '' }, 400, 1005, /filename/],
  ['with a blank filename', { ...good, filename: '   ' }, 400, 1005, /filename/],
  ['with 256 characters of filename', { ...good, filename: `${'a'.repeat(252)}.jpg` }, 400, 1005, /filename/],
  ['with 256 emoji for filename', { ...good, filename: '🌍'.repeat(256) }, 400, 1005, /filename/],
  ['of a folder', { ...good, filename: 'photos/' }, 400, 1005, /filename/],
  ['of the folder above', { ...good, filename: '..' }, 400, 1005, /filename/],
  ['of the folder above that', { ...good, filename: '../..' }, 400, 1005, /filename/],
  ['of this folder', { ...good, filename: 'a\\.' }, 400, 1005, /filename/],
  ['with a line break in the filename', { ...good, filename: 'a\r\nb.jpg' }, 400, 1005, /filename/],
  ['with a DEL in the filename', { ...good, filename: 'a\x7f.jpg' }, 400, 1005, /filename/],
  ['with a line separator in the filename', { ...good, filename: 'a\u2028.jpg' }, 400, 1005, /filename/],
  ['with NUL in the filename', { ...good, filename: 'a.exe\0.jpg' }, 400, 1005, /filename/],
  ['with half a surrogate pair in the filename', { ...good, filename: 'a\ud800.jpg' }, 400, 1005, /filename/],
]
for (const [what, body, status, code, message] of refusals) {
  test(`create ${what} is refused with ${code}`, async () => {
    const before = await keptBy(server)
    await assertRefused(create(body), { status, code, message })
    assert.deepEqual(await keptBy(server), before)
  })
}

for (const extension of (
  'webp svg svgz flac ogg oga ogv opus exe dll com bat cmd msi scr ps1 vbs sh bash command app dmg pkg apk jar deb rpm ' +
  'elf so bin run EXE WebP'
).split(' ')) {
  test(`a file called .${extension} is refused whatever type is declared`, async () => {
    const filename = `holiday.${extension}`
    await assertRefused(create({ ...good, filename }), { status: 400, code: 5004, message: /filename/ })
    await assertRefused(create({ ...good, filename: `${filename}. ` }), { status: 400, code: 5004 })
  })
}

for (const [given, kept] of [
  ['no-extension', 'no-extension'],
  ['picture.png', 'picture.png'],
  ['holiday/2026/beach.jpg', 'beach.jpg'],
  ['C:\\Users\\me\\beach.jpg', 'beach.jpg'],
  ['../../etc/passwd', 'passwd'],
  ['.hidden', '.hidden'],
  ['...', '...'],
  ['a b.jpg', 'a b.jpg'],
  ['100% "sure"?#&=;+.jpg', '100% "sure"?#&=;+.jpg'],
  ['日本語 🌍 é.jpg', '日本語 🌍 é.jpg'],
  ['مرحبا.jpg', 'مرحبا.jpg'],
  ['<script>.html', '<script>.html'],
  ["Robert'); drop table attachments;--", "Robert'); drop table attachments;--"],
  ['%2e%2e%2fx.jpg', '%2e%2e%2fx.jpg'],
  ['🌍'.repeat(255), '🌍'.repeat(255)],
  [`${'a'.repeat(251)}.jpg`, `${'a'.repeat(251)}.jpg`],
] as const) {
  const shown = given.length > 60 ? `${[...given].length} times ${given.slice(0, 2)}` : given
  test(`the filename ${shown} is kept and can be found on the CDN`, async () => {
    const made = await upload(client, jpeg(), given, 'image/jpeg')
    const found = await client.attachments.retrieve(made.attachment_id)
    assert.equal(found.filename, kept)
    assert.equal(found.download_url, made.download_url)
    assert.equal(new URL(made.download_url).pathname.split('/').length, 6)
    assert.equal(decodeURIComponent(new URL(made.download_url).pathname.split('/').at(-1) ?? ''), kept)
    const file = await fetch(made.download_url)
    assert.deepEqual([file.status, Buffer.from(await file.arrayBuffer())], [200, jpeg()])
  })
}
