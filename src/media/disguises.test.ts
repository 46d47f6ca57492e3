import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deflateRawSync, gzipSync } from 'node:zlib'
import { box, cfb, ftyp, zip } from '../../test/fixtures/media/containers.ts'
import {
  acceptedFiles,
  DOCX_MAIN,
  exeLike,
  gif,
  id3,
  jpeg,
  mp3,
  office,
  png,
  refusedFiles,
  svg,
  utf16be,
  utf16le,
  wav,
} from '../../test/fixtures/media/files.ts'
import { inMemory } from '../../test/fixtures/media/memory.ts'
import { detect } from './detect.ts'
import { TextScan } from './text-scan.ts'

type Hint = Parameters<typeof detect>[1]

async function seen(content: Uint8Array | string, hint?: Hint): Promise<string> {
  const detection = await detect(inMemory(content), hint)
  return 'type' in detection ? detection.type.name : `refused: ${detection.refused}`
}

async function assertRefused(content: Uint8Array | string, what: RegExp, hint?: Hint): Promise<void> {
  const answer = await seen(content, hint)
  assert.match(answer, /^refused: /)
  assert.match(answer, what)
}

const accepted = acceptedFiles()
const refused = refusedFiles()
const jar = zip([{ name: 'META-INF/MANIFEST.MF', data: 'Main-Class: A' }, { name: 'A.class' }])
const words = Buffer.alloc(400_000, 'All work and no play. ')

test('a WebP image called .png is a WebP image', async () => {
  await assertRefused(refused['image.webp']?.[0] ?? '', /WebP/, { filename: 'photo.png', declared: 'image/png' })
})

test('AVIF behind an HEIF brand is AVIF', async () => {
  await assertRefused(Buffer.concat([ftyp('mif1', 'mif1', 'avif', 'miaf'), box('meta')]), /AVIF/)
  await assertRefused(Buffer.concat([ftyp('mif1', 'mif1', 'heic', 'avis'), box('meta')]), /AVIF/)
})

test('a program called .pdf is a program', async () => {
  await assertRefused(exeLike, /Windows executable/, { filename: 'invoice.pdf', declared: 'application/pdf' })
  await assertRefused(refused['program.elf']?.[0] ?? '', /ELF/, { filename: 'invoice.pdf' })
})

test('a JAR that begins like a docx is a JAR, and so is one whose manifest has odd letters', async () => {
  const manifest = [{ name: 'META-INF/MANIFEST.MF', data: 'Main-Class: A' }]
  await assertRefused(office(DOCX_MAIN, manifest), /Java program/)
  await assertRefused(office(DOCX_MAIN, [{ name: 'meta-inf\\manifest.mf' }]), /Java program/)
})

test('an APK that begins with an EPUB mimetype is an APK', async () => {
  const entries = [{ name: 'mimetype', data: 'application/epub+zip' }, { name: 'AndroidManifest.xml' }]
  await assertRefused(zip(entries), /Android/)
  await assertRefused(zip([{ name: 'mimetype', data: 'application/epub+zip' }, { name: 'classes2.dex' }]), /Android/)
})

test('entries hidden from the directory count for nothing, and a directory that lies is refused', async () => {
  const hidden = [{ name: '[Content_Types].xml', data: `<Override ContentType="${DOCX_MAIN}"/>` }]
  assert.equal(await seen(zip([{ name: 'a.txt' }], { local: hidden })), 'ZIP')
  await assertRefused(zip([{ name: 'a.txt' }, { name: 'META-INF/MANIFEST.MF' }], { count: 1 }), /directory/)
  const decoy = zip([{ name: 'a.txt' }])
  const both = Buffer.concat([decoy.subarray(0, -22), jar])
  await assertRefused(both, /directory/)
})

test('two entries of the telling name are not trusted', async () => {
  const types = {
    name: '[content_types].xml',
    data: '<Default ContentType="application/vnd.ms-word.document.macroEnabled.main+xml"/>',
  }
  await assertRefused(office(DOCX_MAIN, [types]), /Office file/)
})

test('an old Office file that holds an archive is one, unless the archive ends the file', async () => {
  const letter = accepted['letter.doc'] ?? Buffer.alloc(0)
  assert.equal(await seen(Buffer.concat([letter, jar, Buffer.alloc(512 - (jar.length % 512))])), 'DOC')
  await assertRefused(Buffer.concat([letter, jar]), /DOC and a ZIP/)
})

test('a GIF or a PDF that is a JAR too is refused, even with bytes behind the JAR', async () => {
  await assertRefused(Buffer.concat([gif(), jar]), /GIF and a ZIP/)
  await assertRefused(Buffer.concat([gif(), jar, Buffer.alloc(3)]), /GIF and a ZIP/)
  await assertRefused(Buffer.concat([accepted['letter.pdf'] ?? Buffer.alloc(0), zip([{ name: 'a' }])]), /PDF and a ZIP/)
  for (const file of [png(), jpeg(), wav(), mp3(), accepted['film.mp4'] ?? Buffer.alloc(0)]) {
    await assertRefused(Buffer.concat([file, zip([{ name: 'a' }], { comment: 'x'.repeat(60_000) })]), /ZIP/)
  }
})

test('SVG is SVG behind a BOM, a prolog, comments, a DOCTYPE, a prefix, blanks, UTF-16 and gzip', async () => {
  const doctype = '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x>y" [<!ENTITY a "<p>"> <!-- ]> -->]>'
  const disguises: (string | Uint8Array)[] = [
    svg,
    `\ufeff${svg}`,
    `\ufeff\ufeff${svg}`,
    `<?xml version="1.0"?>\n<!-- <html> -->\n${svg}`,
    `<!-- ${'x'.repeat(200_000)} -->${svg}`,
    `${'<!-- a -->'.repeat(10_000)}${svg}`,
    `${' \r\n\t'.repeat(50_000)}${svg}`,
    `${doctype}${svg}`,
    `<!DOCTYPE html>${svg}`,
    '<s:svg xmlns:s="http://www.w3.org/2000/svg"/>',
    '<SVG></SVG>',
    utf16le(svg),
    utf16be(`<?xml version="1.0"?>${svg}`),
  ]
  for (const disguise of disguises) {
    await assertRefused(disguise, /SVG/, { filename: 'note.txt', declared: 'text/plain' })
  }
  await assertRefused(gzipSync(svg), /GZIP/, { filename: 'note.txt' })
})

test('an SVG behind more comments or blanks than anyone reads is refused, though not by name', async () => {
  await assertRefused(`<!-- ${'x'.repeat(600_000)} -->${svg}`, /markup without an element/)
  await assertRefused(`${' '.repeat(600_000)}${svg}`, /nothing but blanks/)
})

test('a page that shows an SVG is HTML, and a table with one in a cell is CSV', async () => {
  assert.equal(await seen(`<html><body>${svg}</body></html>`), 'HTML')
  assert.equal(await seen('id,icon\n1,<svg></svg>\n2,<svg></svg>\n3,<svg></svg>\n'), 'CSV')
})

test('a script is a script behind a BOM and in UTF-16, whatever it is declared as', async () => {
  for (const script of ['#!/bin/sh\n', '\ufeff#!/usr/bin/env python3\n', utf16le('#!/bin/sh\n')]) {
    await assertRefused(script, /script/, { filename: 'a.txt', declared: 'text/plain' })
  }
  await assertRefused('@echo off\r\n', /batch/, { declared: 'text/plain' })
  await assertRefused('<?php system($_GET[0]);', /PHP/, { declared: 'text/html' })
  await assertRefused(Buffer.concat([Buffer.from('#!/bin/sh\nexit\n'), Buffer.alloc(9)]), /script/)
})

test('a program in the middle of a text is found by the scan of the upload, and at its end without one', async () => {
  const behind = Buffer.concat([words, exeLike])
  await assertRefused(behind, /goes on as something else/)
  const between = Buffer.concat([words, exeLike, words])
  const text = new TextScan()
  text.update(between)
  await assertRefused(between, /goes on as something else/, { text })
})

test('a script line behind 400 KB of text is a line of text: only the first two bytes make a script', async () => {
  assert.equal(await seen(Buffer.concat([words, Buffer.from('\n#!/bin/sh\necho hi\n')])), 'TXT')
})

test('a scan that did not see the whole file is not trusted', async () => {
  const text = new TextScan()
  text.update(words)
  await assertRefused(Buffer.concat([words, exeLike]), /goes on as something else/, { text })
})

test('macros in a file called .docx are found by content type and by part', async () => {
  await assertRefused(refused['macro.docm']?.[0] ?? '', /macros/, { filename: 'letter.docx' })
  await assertRefused(office(DOCX_MAIN, [{ name: 'word/vbaProject.bin' }]), /macros/, { filename: 'letter.docx' })
  await assertRefused(
    office(`${DOCX_MAIN}"/><Override ContentType='application/vnd.ms-office.vbaProject' x="`),
    /macros/,
  )
})

test('an installer and an Outlook message called .doc are neither', async () => {
  await assertRefused(refused['setup.msi']?.[0] ?? '', /Windows installer/, { filename: 'letter.doc' })
  await assertRefused(refused['mail.msg']?.[0] ?? '', /Outlook/, { filename: 'letter.doc' })
  assert.equal(await seen(cfb(['WordDocument', 'ObjectPool'], { embedded: ['Workbook'] })), 'DOC')
  await assertRefused(cfb(['ObjectPool'], { embedded: ['WordDocument'] }), /OLE2/)
})

test('words that begin like a signature are text', async () => {
  for (const text of [
    'GIF87a and GIF89a are two versions of one format, and nobody agrees how to say it.',
    'GIF89a/*abc*/=1;alert(1)',
    'BMW service book, oil changed',
    'MZ motorcycles were built in Zschopau',
    'ID3 tags are stored at the head',
    'PK is the country code of Pakistan',
    'The ftypisom brand is described elsewhere',
    'RIFF of the week: a guitar lesson in WAVE form',
    '%PDF is how a portable document begins',
    'II*less is more',
  ]) {
    assert.equal(await seen(text), 'TXT', text)
  }
})

test('signatures behind a BOM or junk are not believed', async () => {
  const bom = Buffer.from('\ufeff')
  for (const file of [png(), jpeg(), gif(), wav(), mp3(), jar]) await assertRefused(Buffer.concat([bom, file]), /./)
  await assertRefused(Buffer.concat([id3(), png()]), /unknown/)
  await assertRefused(Buffer.concat([Buffer.from('junk\0'), accepted['letter.pdf'] ?? Buffer.alloc(0)]), /./)
  const [pdf = Buffer.alloc(0)] = [accepted['letter.pdf']]
  assert.equal(await seen(Buffer.concat([bom, pdf])), 'PDF')
  assert.equal(await seen(Buffer.concat([Buffer.from('\n \n'), pdf])), 'PDF')
})

test('one frame header is not a sound', async () => {
  await assertRefused(Buffer.concat([Buffer.from([0xff, 0xfb, 0x90, 0x00]), Buffer.alloc(3000, 7)]), /unknown/)
  await assertRefused(
    Buffer.concat([id3(), Buffer.from([0xff, 0xf1, 0x50, 0x80, 8, 0x1f, 0xfc]), Buffer.alloc(300, 7)]),
    /unknown/,
  )
  const liar = id3()
  liar.set([0x7f, 0x7f, 0x7f, 0x7f], 6)
  await assertRefused(Buffer.concat([liar, mp3()]), /unknown/)
})

test('an entry that inflates beyond its cap is a bomb, not a document', async () => {
  const name = '[Content_Types].xml'
  const bomb = zip([{ name, data: deflateRawSync(Buffer.alloc(20_000_000, ' ')) }])
  for (const at of [8, bomb.lastIndexOf('PK\x01\x02') + 10]) bomb.writeUInt16LE(8, at)
  const startedAt = cpuMs()
  await assertRefused(bomb, /Office file/)
  assert.ok(cpuMs() - startedAt < 200)
})

/** What this thread has computed so far, in ms: a busy machine does not stretch it. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}
