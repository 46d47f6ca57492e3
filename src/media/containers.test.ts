import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { box, cfb, ftyp, moov, zip } from '../../test/fixtures/media/containers.ts'
import { DOCX_MAIN, iwork, office, utf16be, utf16le, XLSX_MAIN } from '../../test/fixtures/media/files.ts'
import { inMemory, padded } from '../../test/fixtures/media/memory.ts'
import { detect } from './detect.ts'

async function seen(content: Uint8Array): Promise<string> {
  const detection = await detect(inMemory(content))
  return 'type' in detection ? detection.type.name : detection.refused
}

test('a ZIP that lacks the last byte of its comment, or has bytes behind it, is still opened', async () => {
  const docx = zip([{ name: '[Content_Types].xml', data: `<Override ContentType="${DOCX_MAIN}"/>` }], {
    comment: 'hello',
  })
  assert.equal(await seen(docx), 'DOCX')
  assert.equal(await seen(docx.subarray(0, -1)), 'DOCX')
  assert.equal(await seen(Buffer.concat([docx, Buffer.alloc(10)])), 'DOCX')
})

test('a ZIP without a directory or with lies in it is refused, an empty one is a ZIP', async () => {
  const file = zip([{ name: 'a.txt', data: 'hello' }])
  assert.equal(await seen(zip([])), 'ZIP')
  assert.match(await seen(file.subarray(0, -22)), /cannot be read/)
  assert.match(await seen(zip([{ name: 'a' }], { count: 2 })), /cannot be read/)
  assert.match(await seen(zip([{ name: 'a' }], { directoryOffset: 0 })), /cannot be read/)
  assert.match(await seen(Buffer.concat([Buffer.from('PK\x07\x08'), file])), /split ZIP/)
})

test('a ZIP64 archive is opened, up to 100,000 entries', async () => {
  assert.equal(await seen(zip([{ name: 'a.txt' }], { zip64: true })), 'ZIP')
  assert.match(await seen(zip([{ name: 'a.txt' }], { zip64: true, count: 100_001 })), /cannot be read/)
})

test('an encrypted ZIP is a ZIP, but what hides its content types is no document', async () => {
  assert.equal(await seen(zip([{ name: 'a.txt', data: 'x', flags: 1 }])), 'ZIP')
  assert.match(await seen(zip([{ name: '[Content_Types].xml', data: 'x', flags: 1 }])), /Office file/)
})

test('Office documents are told by their content types in UTF-8 and UTF-16, named or by default', async () => {
  const xml = `<Types><Default Extension='xml' ContentType='${XLSX_MAIN}; charset=utf-8'/></Types>`
  for (const data of [xml, utf16le(xml), utf16be(xml)]) {
    assert.equal(await seen(zip([{ name: '[content_types].XML', data }])), 'XLSX')
  }
})

test('folders prove nothing, and two main parts are one too many', async () => {
  assert.equal(await seen(zip([{ name: 'word/document.xml' }, { name: 'xl/workbook.xml' }])), 'ZIP')
  assert.match(await seen(office(`${DOCX_MAIN}"/><Override ContentType="${XLSX_MAIN}`)), /Office file/)
})

test('a mimetype that is neither empty nor EPUB is refused', async () => {
  assert.match(await seen(zip([{ name: 'mimetype', data: 'image/openraster' }])), /of type image\/openraster/)
  assert.match(await seen(zip([{ name: 'mimetype', data: 'x'.repeat(300) }])), /unclear type/)
  assert.equal(await seen(zip([{ name: 'mimetype' }])), 'ZIP')
})

test('iWork of 2009 is told by its root element, packed or not', async () => {
  const pages = '<?xml version="1.0"?>\n<sl:document xmlns:sl="x"/>'
  assert.equal(await seen(zip([{ name: 'index.xml', data: pages, deflate: true }])), 'PAGES')
  assert.equal(await seen(zip([{ name: 'index.xml.gz', data: gzipSync('<ls:document/>') }])), 'NUMBERS')
  assert.equal(await seen(zip([{ name: 'index.apxl' }])), 'KEY')
  assert.equal(await seen(zip([{ name: 'index.xml', data: '<other/>' }])), 'ZIP')
})

test('iWork since 2013 is told by its root object: a letter with a table is a letter', async () => {
  assert.equal(await seen(iwork(10_000, 'Index/Tables/a.iwa')), 'PAGES')
  assert.equal(await seen(iwork(1)), 'NUMBERS')
  assert.equal(await seen(iwork(10_000, 'Index/MasterSlide-1.iwa')), 'KEY')
})

test('an old Office file is told by the direct children of its root, without regard to case', async () => {
  assert.equal(await seen(cfb(['WORDDOCUMENT'])), 'DOC')
  assert.equal(await seen(cfb(['BOOK'])), 'XLS')
  assert.equal(await seen(cfb(['PP40'])), 'PPT')
  assert.equal(await seen(cfb(Array.from({ length: 40 }, (_, i) => `s${i}`).concat('Workbook'))), 'XLS')
})

test('two kinds in one old Office file are told apart by the class of the root', async () => {
  const both = ['WordDocument', 'Workbook']
  assert.equal(await seen(cfb(both, { classId: '0609020000000000c000000000000046' })), 'DOC')
  assert.equal(await seen(cfb(both, { classId: '2008020000000000c000000000000046' })), 'XLS')
  assert.match(await seen(cfb(both)), /OLE2/)
})

test('sector chains that run in circles end', async () => {
  const names = Array.from({ length: 9 }, (_, i) => `s${i}`)
  for (const nextDirectory of [0, 1, 2, 0x7ffffff0]) assert.match(await seen(cfb(names, { nextDirectory })), /OLE2/)
})

test('generic ISO media are told by their tracks, wherever the list of tracks lies', async () => {
  const media = box('mdat', Buffer.alloc(200_000))
  for (const brand of ['isom', 'mp42', 'dash', 'NDSH']) {
    assert.equal(await seen(Buffer.concat([ftyp(brand), media, moov(['soun', 'vide'])])), 'MP4', brand)
    assert.equal(await seen(Buffer.concat([ftyp(brand), moov(['soun']), media])), 'M4A', brand)
  }
  assert.match(await seen(Buffer.concat([ftyp('isom'), media])), /no track list/)
  assert.match(await seen(Buffer.concat([ftyp('isom'), moov(['text'])])), /without video or sound/)
})

test('the major brand decides, a compatible one only where the major is unknown', async () => {
  assert.equal(await seen(Buffer.concat([ftyp('isom', '3gp4'), moov(['vide'])])), 'MP4')
  assert.equal(await seen(Buffer.concat([ftyp('abcd', 'wxyz', 'M4V '), moov(['vide'])])), 'M4V')
  assert.equal(await seen(Buffer.concat([ftyp('M4A\0'), moov(['soun'])])), 'M4A')
  assert.match(await seen(ftyp('abcd', 'wxyz')), /unknown brand "abcd"/)
  assert.match(await seen(ftyp('M4P ', 'M4A ')), /protected/)
  assert.match(await seen(ftyp('mif1', 'avci')), /AVC/)
  assert.match(await seen(Buffer.concat([box('styp', Buffer.alloc(8)), box('moof')])), /DASH/)
})

test('a film of 100 MB whose track list lies at its end costs three reads', async () => {
  const size = 104_857_600
  const end = moov(['vide'])
  const start = Buffer.concat([ftyp('isom'), box('mdat', [], size - ftyp('isom').length - end.length)])
  const file = padded(start, 0, end, size)
  const detection = await detect(file)
  assert.ok('type' in detection && detection.type.name === 'MP4')
  assert.ok(file.reads <= 3 && file.bytesRead <= 160 * 1024, `${file.reads} reads, ${file.bytesRead} bytes`)
})
