import assert from 'node:assert/strict'
import { test } from 'node:test'
import { utf16be, utf16le } from '../../test/fixtures/media/files.ts'
import { inMemory } from '../../test/fixtures/media/memory.ts'
import { isCsv } from './csv.ts'
import { detect } from './detect.ts'
import { classifyMarkup } from './markup.ts'

async function seen(content: Uint8Array | string, hint?: Parameters<typeof detect>[1]): Promise<string> {
  const detection = await detect(inMemory(content), hint)
  return 'type' in detection ? detection.type.name : (detection.format ?? detection.refused)
}

const long = (text: string) => text.repeat(Math.ceil(200_000 / text.length))

test('contacts and calendars are told by their first line, in any case, behind a BOM or blanks', async () => {
  for (const start of ['', '\ufeff', '\r\n \n']) {
    assert.equal(await seen(`${start}Begin:VCard\nFN:A\nEND:VCARD`), 'VCF')
    assert.equal(await seen(`${start}BEGIN:VCALENDAR\r\nEND:VCALENDAR`), 'ICS')
  }
  assert.equal(await seen(utf16be('BEGIN:VCARD\r\n')), 'VCF')
  assert.equal(await seen('BEGIN:VCARDS are a kind of list'), 'TXT')
})

test('HTML is told by its root, its DOCTYPE or an element of it', async () => {
  for (const page of [
    '<html>',
    '<!DOCTYPE html>\n<title>x</title>',
    '<!-- a > b --><!doctype HTML public "-//W3C//DTD HTML 4.01//EN"><body>',
    '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>',
    '<div xmlns="http://www.w3.org/1999/xhtml">x</div>',
    '<p>One paragraph',
    '<script>alert(1)</script>',
    utf16le('<html>'),
  ]) {
    assert.equal(await seen(page), 'HTML', page.toString())
  }
})

test('XML is refused, unless the caller calls it plain text', async () => {
  for (const xml of [
    '<?xml version="1.0"?><rss/>',
    '<feed xmlns="http://www.w3.org/2005/Atom">',
    '<a:b xmlns:a="x"/>',
    '<note><to>A</to></note>\n',
    '<note>x</note>\n<!-- the end -->\n',
    '<note/>',
  ]) {
    assert.equal(await seen(xml), 'XML', xml)
    assert.equal(await seen(xml, { declared: 'text/plain' }), 'TXT', xml)
    assert.equal(await seen(xml, { filename: 'feed.txt' }), 'TXT', xml)
    assert.equal(await seen(xml, { filename: 'feed.csv', declared: 'text/csv' }), 'XML', xml)
  }
})

test('a sentence that begins with a bracket is a sentence', async () => {
  for (const text of ['<3 you all', '<- look here', '<name> please fill in', '<<EOF'])
    assert.equal(await seen(text), 'TXT', text)
})

test('markup that never comes to an element is open', () => {
  for (const text of ['<!-- ', '<?xml ', '<!DOCTYPE a [', '<!DOCTYPE "', '<!-- --> ']) {
    assert.equal(classifyMarkup(text, text), 'open', text)
  }
})

test('JSON is refused, whole, by lines or cut, unless the caller calls it plain text', async () => {
  for (const json of [
    '{"a":1}',
    '[1, 2]',
    '{}',
    '{"a":1}\n{"b":2}\n',
    long('[{"key": "value", "n": [1.5e3, null]}, '),
    `{"a": "${long('x')}"}`,
  ]) {
    assert.equal(await seen(json), 'JSON', json.slice(0, 20))
    assert.equal(await seen(json, { filename: 'log.TXT' }), 'TXT')
  }
  for (const text of [
    '[1] See the appendix',
    '{curly} braces',
    '[INFO] started\n[INFO] ended\n',
    long('[2] A line of notes. '),
  ]) {
    assert.equal(await seen(text), 'TXT', text.slice(0, 20))
  }
})

test('mail is refused, but a memo is text', async () => {
  assert.equal(await seen('Return-Path: <a@b>\nSubject: x\n\ty\n\nBody'), 'EML')
  assert.equal(await seen('From a@example.com Mon Jan  5 10:00:00 2026\nhello'), 'MBOX')
  assert.equal(await seen('From: Ada\nTo: Bob\n\nPlease call.'), 'TXT')
  assert.equal(await seen('Message-ID: is a header.\nThis line is not: one.\nFrom: x\n\n'), 'TXT')
})

test('other formats with a first line of their own are named', async () => {
  for (const [text, format] of [
    ['%!PS-Adobe-3.0', 'PostScript'],
    ['-----BEGIN PGP MESSAGE-----', 'PGP'],
    ['REGEDIT4\r\n', 'REG'],
    ['[InternetShortcut]\r\nURL=x', 'URL'],
    ['WEBVTT\n\n00:00', 'WebVTT'],
    ['@ECHO OFF', 'BAT'],
  ] as const) {
    assert.equal(await seen(text), format)
  }
})

test('Markdown, logs, source code and blanks are plain text', async () => {
  for (const text of [
    '# Title\n\nText',
    'def f():\n  return 1\n',
    '2026-01-01 INFO started',
    ' \n\t\n',
    'key=value',
    '@media print',
  ]) {
    assert.equal(await seen(text), 'TXT', text)
  }
  assert.equal(await seen(' '.repeat(100_000)), 'TXT')
})

test('a long UTF-16 text whose tail begins inside a pair of surrogates is text', async () => {
  for (const end of ['', 'a']) {
    assert.equal(await seen(utf16le(`${'😀'.repeat(50_000)}${end}`)), 'TXT')
    assert.equal(await seen(utf16be(`${'😀'.repeat(50_000)}${end}`)), 'TXT')
  }
})

test('a table has two records and two columns of one delimiter, quoted or not', () => {
  for (const csv of [
    'a,b\n1,2\n',
    'a;b;c\r\n1;2;3\r\n',
    'a,b\r1,2\r',
    '# note\na,b\n1,2',
    '"x, y","line\nbreak"\n"a ""quoted"" word",2\n',
    'name,note\nAda,"{not code}"\nBob,x\n',
    'class,access\nA,private\nB,public\n',
  ]) {
    assert.equal(isCsv(csv, true), true, csv)
  }
})

test('prose, code and single records are no tables', () => {
  for (const text of [
    'a,b,c',
    'Dear Ada, how are you?\nI am well, thank you.\n',
    'const a = 1, b = 2\nconst c = 3, d = 4\n',
    'use strict;\nuse warnings;\nour $x;\n',
    '"a",\n"b",\n"c",\n',
    'one\ntwo\nthree\n',
    `${'long '.repeat(30)},${'long '.repeat(30)}\n`.repeat(5),
    '',
  ]) {
    assert.equal(isCsv(text, true), false, text)
  }
})

test('the cut last line of a long table does not count', () => {
  assert.equal(isCsv('a,b\n1,2\n3', false), true)
  assert.equal(isCsv('a,b\n1,2\n3', true), false)
})
