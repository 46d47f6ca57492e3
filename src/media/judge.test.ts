import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refuse, refuseBecause } from './foreign.ts'
import { judgeUpload, judgeUrl, type Verdict } from './judge.ts'
import { findDeclaredType, typeOf } from './types.ts'

const is = (extension: string) => ({ type: typeOf(extension) })
const reported = (verdict: Verdict) => (verdict.accepted ? verdict.type.name : verdict.failure)
const message = (verdict: Verdict) => (verdict.accepted ? '' : verdict.message)

test('a refused format says what it is, what it claimed and what to send instead', () => {
  const verdict = judgeUpload(refuse('webp'), { filename: 'photo.png', declared: 'image/png' })
  assert.equal(reported(verdict), 'bad_file_type')
  assert.equal(
    message(verdict),
    'photo.png is a WebP image; WebP is not supported. Send JPEG, PNG, GIF, HEIC, HEIF, TIFF or BMP.',
  )
})

test('a declared type that the name does not show is told in the message', () => {
  const send = 'Send PDF, TXT, RTF, CSV, HTML, ZIP, EPUB, DOC, DOCX, XLS, XLSX, PPT, PPTX, PAGES, NUMBERS or KEY.'
  assert.equal(
    message(judgeUpload(refuse('elf'), { filename: 'invoice', declared: 'application/pdf' })),
    `invoice (declared as application/pdf) is an ELF executable; ELF is not supported. ${send}`,
  )
  assert.equal(
    message(judgeUpload(refuseBecause('an empty file'), { declared: 'audio/mp3' })),
    'The file (declared as audio/mp3) is an empty file; that is not supported. Send M4A, AAC, MP3, WAV, AIFF, CAF or AMR.',
  )
})

test('content of another family than declared is a mismatch that names both', () => {
  const verdict = judgeUpload(is('jpg'), { filename: 'photo.png', declared: 'image/png' })
  assert.equal(reported(verdict), 'content_mismatch')
  assert.equal(
    message(verdict),
    'photo.png is declared as PNG (image/png) but its content is JPEG (image/jpeg). Declare image/jpeg, or send PNG content.',
  )
})

test('within a family the declared type may differ, and what the content is gets reported', () => {
  for (const [content, declared, name] of [
    ['heif', 'image/heic', 'HEIF'],
    ['mov', 'video/mp4', 'MOV'],
    ['m4a', 'video/mp4', 'M4A'],
    ['3gp', 'video/quicktime', '3GP'],
    ['xls', 'application/msword', 'XLS'],
    ['docx', 'application/zip', 'DOCX'],
    ['zip', 'application/epub+zip', 'ZIP'],
    ['html', 'text/plain', 'HTML'],
    ['rtf', 'text/plain', 'RTF'],
    ['csv', 'text/plain; charset=utf-8', 'CSV'],
  ] as const) {
    assert.equal(reported(judgeUpload(is(content), { declared })), name, `${content} as ${declared}`)
  }
})

test('families do not reach into each other', () => {
  for (const [content, declared] of [
    ['jpg', 'image/png'],
    ['heic', 'image/jpeg'],
    ['mp3', 'audio/mp4'],
    ['mp4', 'video/mpeg'],
    ['doc', findDeclaredType('application/zip')?.contentType ?? ''],
    ['zip', 'application/msword'],
    ['txt', 'application/pdf'],
    ['pdf', 'text/plain'],
  ] as const) {
    assert.equal(reported(judgeUpload(is(content), { declared })), 'content_mismatch', `${content} as ${declared}`)
  }
})

test('text without a mark of its own keeps the declared CSV or HTML, but is no contact and no calendar', () => {
  assert.equal(reported(judgeUpload(is('txt'), { declared: 'text/csv' })), 'CSV')
  assert.equal(reported(judgeUpload(is('txt'), { declared: 'text/html' })), 'HTML')
  assert.equal(reported(judgeUpload(is('txt'), { declared: 'text/vcard' })), 'TXT')
  assert.equal(reported(judgeUpload(is('csv'), { declared: 'text/html' })), 'CSV')
})

test('a refused extension is refused although the content is fine, and so is a declared type not on the list', () => {
  const byName = judgeUpload(is('jpg'), { filename: 'photo.webp', declared: 'image/jpeg' })
  assert.equal(reported(byName), 'bad_file_type')
  assert.match(message(byName), /name it \.jpg/)
  assert.equal(reported(judgeUrl(is('jpg'), { filename: 'photo.exe' })), 'bad_file_type')
  const byType = judgeUpload(is('jpg'), { filename: 'photo.jpg', declared: 'application/octet-stream' })
  assert.equal(reported(byType), 'bad_file_type')
  assert.match(message(byType), /application\/octet-stream.*declare image\/jpeg/)
})

test('without a claim the content alone decides', () => {
  assert.equal(reported(judgeUpload(is('mp3'), {})), 'MP3')
  assert.equal(reported(judgeUrl(is('mp3'), {})), 'MP3')
  assert.equal(reported(judgeUrl(is('mp3'), { filename: 'download' })), 'MP3')
  assert.equal(reported(judgeUrl(is('mp3'), { filename: 'download.php' })), 'MP3')
})

test('by URL the extension is the claim, if it is one of ours', () => {
  assert.equal(reported(judgeUrl(is('jpg'), { filename: 'photo.jpeg' })), 'JPEG')
  assert.equal(reported(judgeUrl(is('mov'), { filename: 'film.mp4' })), 'MOV')
  assert.equal(reported(judgeUrl(is('txt'), { filename: 'one-line.csv' })), 'CSV')
  const verdict = judgeUrl(is('jpg'), { filename: 'photo.png' })
  assert.equal(reported(verdict), 'content_mismatch')
  assert.match(
    message(verdict),
    /photo\.png is named as PNG \(image\/png\) but its content is JPEG \(image\/jpeg\)\. Name it \.jpg/,
  )
})

test("the origin's type breaks ties between text types only, and only where the name says nothing", () => {
  assert.equal(reported(judgeUrl(is('txt'), { filename: 'export', originType: 'text/csv; charset=utf-8' })), 'CSV')
  assert.equal(reported(judgeUrl(is('txt'), { filename: 'note.txt', originType: 'text/csv' })), 'TXT')
  assert.equal(reported(judgeUrl(is('jpg'), { filename: 'photo', originType: 'image/png' })), 'JPEG')
  assert.equal(reported(judgeUrl(is('html'), { filename: 'page', originType: 'text/csv' })), 'HTML')
  assert.equal(reported(judgeUrl(refuse('webp'), { filename: 'photo', originType: 'image/png' })), 'bad_file_type')
})
