import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  extensionOf,
  findDeclaredType,
  findTypeByExtension,
  isRefusedExtension,
  MEDIA_TYPES,
  supportedNames,
} from './types.ts'

const PROMISED =
  'jpg jpeg png gif heic heif tif tiff bmp mp4 mov m4v mpeg mpg 3gp m4a aac mp3 wav aiff caf amr ' +
  'pdf txt rtf csv zip epub html htm doc docx xls xlsx ppt pptx pages numbers key vcf ics'

test('every promised extension belongs to exactly one format', () => {
  const all = MEDIA_TYPES.flatMap((type) => type.extensions)
  assert.equal(new Set(all).size, all.length)
  for (const extension of PROMISED.split(' ')) assert.ok(findTypeByExtension(`a.${extension}`), extension)
})

test('no name is accepted for two formats', () => {
  const names = MEDIA_TYPES.flatMap((type) => [type.contentType, ...type.aliases])
  assert.equal(new Set(names).size, names.length)
  for (const name of names) assert.equal(name, name.toLowerCase())
})

test('a declared type is found without regard to case, blanks and parameters, and by its aliases', () => {
  for (const [declared, name] of [
    ['image/jpeg', 'JPEG'],
    ['Image/JPG', 'JPEG'],
    [' text/plain; charset=utf-8', 'TXT'],
    ['audio/mp4', 'M4A'],
    ['application/x-zip-compressed', 'ZIP'],
    ['application/vnd.apple.keynote', 'KEY'],
  ] as const) {
    assert.equal(findDeclaredType(declared)?.name, name, declared)
  }
})

test('a type that is not on the list is not found, not even under a name some libraries use', () => {
  for (const declared of [
    'image/webp',
    'image/svg+xml',
    'application/octet-stream',
    'image/pjpeg',
    'audio/ogg',
    '',
    'toString',
  ]) {
    assert.equal(findDeclaredType(declared), undefined, declared)
  }
})

test('the extension is what follows the last dot of the last path segment', () => {
  for (const [filename, extension] of [
    ['photo.JPG', 'jpg'],
    ['a.tar.gz', 'gz'],
    ['folder.d/readme', ''],
    ['.profile', ''],
    ['setup.exe. ', 'exe'],
    ['C:\\temp\\x.Pdf', 'pdf'],
    ['', ''],
  ] as const) {
    assert.equal(extensionOf(filename), extension, filename)
  }
})

test('executables and unsupported pictures are refused by their extension', () => {
  for (const name of ['a.webp', 'a.SVG', 'a.flac', 'a.ogg', 'setup.exe', 'run.sh', 'lib.so', 'app.apk', 'x.jar.']) {
    assert.equal(isRefusedExtension(name), true, name)
  }
  for (const name of ['a.jpg', 'exe', 'a.exe.txt', 'a.unknown', '']) assert.equal(isRefusedExtension(name), false, name)
})

test('the formats of a kind read as words', () => {
  assert.equal(supportedNames('image'), 'JPEG, PNG, GIF, HEIC, HEIF, TIFF or BMP')
  assert.equal(supportedNames('contact'), 'VCF or ICS')
  assert.match(supportedNames(), /^JPEG, .*, VCF or ICS$/)
})
