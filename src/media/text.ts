/**
 * The text family: contacts, calendars, HTML, CSV and plain text, and what looks like one of them but is SVG, a script, JSON,
 * XML or mail. Only the first 64 KiB are read closely; that the rest is text too is known from the running scan of
 * the upload or else from the last 64 KiB.
 */

import { asBuffer } from './binary.ts'
import { isCsv } from './csv.ts'
import { accept, type Detection, refuse, refuseBecause } from './foreign.ts'
import { classifyMarkup } from './markup.ts'
import { HEAD_BYTES, type Reader } from './reader.ts'
import { encodingOf, isText, type TextEncoding, type TextScan } from './text-scan.ts'
import { classifyWords } from './text-words.ts'
import { findDeclaredType, findTypeByExtension } from './types.ts'

/** How far blanks, comments and declarations in front of the content proper are followed. */
const MAX_PROLOGUE_BYTES = 384 * 1024

export type TextHint = {
  readonly filename?: string | undefined
  readonly declared?: string | undefined
  readonly text?: TextScan | undefined
}

/** undefined: the file does not begin as text. */
export async function detectText(file: Reader, head: Uint8Array, hint: TextHint): Promise<Detection | undefined> {
  if (!isText(head)) return undefined
  const encoding = encodingOf(head)
  const end = await readEnd(file, head, encoding)
  const scanned = hint.text !== undefined && hint.text.size === file.size
  if (scanned ? hint.text?.isText === false : !isText(end, encoding)) {
    return refuseBecause('a file that begins as text and goes on as something else')
  }
  const isWhole = file.size <= head.length
  return classify(decode(head, encoding), { head, isWhole, end: decode(end, encoding), encoding, file, hint })
}

type Context = {
  readonly head: Uint8Array
  readonly isWhole: boolean
  /** How the file ends: its last 64 KiB. */
  readonly end: string
  readonly encoding: TextEncoding
  readonly file: Reader
  readonly hint: TextHint
}

async function classify(text: string, context: Context): Promise<Detection> {
  if (text.startsWith('#!')) return refuse('script')
  let body = text.trimStart()
  if (body === '' && !context.isWhole) body = await readPrologue(context)
  if (body === '' && context.file.size > MAX_PROLOGUE_BYTES)
    return refuseBecause('a file that begins with nothing but blanks')
  if (/^BEGIN:VCARD[ \t]*([\r\n]|$)/i.test(body)) return accept('vcf')
  if (/^BEGIN:VCALENDAR[ \t]*([\r\n]|$)/i.test(body)) return accept('ics')
  if (body.startsWith('<')) return classifyTag(body, context)
  const found = classifyWords(body, context.isWhole)
  if (found !== undefined) return found.inertAsText && isCalledPlain(context.hint) ? accept('txt') : refuse(found.key)
  return accept(isCsv(text, context.isWhole) ? 'csv' : 'txt')
}

async function classifyTag(body: string, context: Context): Promise<Detection> {
  const { end, isWhole } = context
  let kind = classifyMarkup(body, end)
  if (kind === 'open' && !isWhole) kind = classifyMarkup(await readPrologue(context), end)
  switch (kind) {
    case 'html':
      return accept('html')
    case 'xml':
      return isCalledPlain(context.hint) ? accept('txt') : refuse('xml')
    case 'open':
      return refuseBecause('markup without an element')
    case 'text':
      return accept(isCsv(body, isWhole) ? 'csv' : 'txt')
    default:
      return refuse(kind)
  }
}

/** JSON, XML and mail are inert as text, and people do send them as text files. */
function isCalledPlain({ declared = '', filename = '' }: TextHint): boolean {
  return [findDeclaredType(declared), findTypeByExtension(filename)].some((type) => type?.name === 'TXT')
}

/** The last 64 KiB behind the head, beginning with a whole character where the encoding is UTF-16. */
async function readEnd(file: Reader, head: Uint8Array, encoding: TextEncoding): Promise<Uint8Array> {
  if (file.size <= head.length) return head
  const start = Math.max(head.length, file.size - HEAD_BYTES)
  const aligned = encoding === '8-bit' ? start : start + (start % 2)
  const end = await file.read(aligned, file.size - aligned)
  const high = encoding === 'utf-16le' ? end[1] : end[0]
  const isCut = encoding !== '8-bit' && high !== undefined && high >= 0xdc && high <= 0xdf
  return isCut ? end.subarray(2) : end
}

async function readPrologue({ file, head, encoding }: Context): Promise<string> {
  const more = await file.read(head.length, MAX_PROLOGUE_BYTES - head.length)
  return decode(Buffer.concat([head, more]), encoding).trimStart()
}

/** 8-bit bytes become characters one to one: nothing decided here depends on more than ASCII. BOMs are dropped. */
function decode(bytes: Uint8Array, encoding: TextEncoding): string {
  const buffer = asBuffer(bytes)
  if (encoding === '8-bit') {
    let start = 0
    while (buffer[start] === 0xef && buffer[start + 1] === 0xbb && buffer[start + 2] === 0xbf) start += 3
    return buffer.toString('latin1', start)
  }
  const even = buffer.subarray(0, buffer.length & ~1)
  const text = encoding === 'utf-16le' ? even.toString('utf16le') : Buffer.from(even).swap16().toString('utf16le')
  return text.replace(/^\ufeff+/, '')
}
