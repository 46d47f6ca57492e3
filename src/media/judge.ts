/**
 * Content against claim: may this file be sent, and under which type? The content decides and is what is reported. The
 * claim (the declared type of an upload, the name in a URL) is held against it within the lenient families of formats that
 * tools and people mix up. A refusal says what the file is, what it was said to be, and what would be accepted.
 */

import type { Detection } from './detect.ts'
import {
  findDeclaredType,
  findTypeByExtension,
  isRefusedExtension,
  type MediaKind,
  type MediaType,
  supportedNames,
} from './types.ts'

export type Verdict =
  | { readonly accepted: true; readonly type: MediaType }
  | { readonly accepted: false; readonly failure: 'bad_file_type' | 'content_mismatch'; readonly message: string }

/** Formats that count as each other. A declared ZIP package may turn out to be any ZIP package, and so on. */
const FAMILIES: readonly (readonly string[])[] = [
  ['HEIC', 'HEIF'],
  ['MP4', 'M4V', 'MOV', 'M4A', '3GP'],
  ['TXT', 'CSV', 'HTML', 'VCF', 'ICS', 'RTF'],
  ['DOC', 'XLS', 'PPT'],
  ['ZIP', 'EPUB', 'DOCX', 'XLSX', 'PPTX', 'PAGES', 'NUMBERS', 'KEY'],
]

/** Text formats without a mark of their own: content that is merely text cannot contradict the caller. */
const UNMARKED = ['CSV', 'HTML']

/** An uploaded file against the type declared for it. A refused extension is refused here as it is at create. */
export function judgeUpload(
  detection: Detection,
  { filename, declared }: { filename?: string | undefined; declared?: string | undefined },
): Verdict {
  const claimed = declared === undefined ? undefined : findDeclaredType(declared)
  const subject = describeClaim(filename, declared)
  if ('refused' in detection) return unsupported(subject, detection, claimed?.kind)
  if (filename !== undefined && isRefusedExtension(filename)) return refusedName(filename, detection.type)
  if (declared !== undefined && claimed === undefined) return undeclarable(filename, declared, detection.type)
  return compare(subject, detection.type, claimed, 'declared as')
}

/** A downloaded file against the name in its URL. The origin's type breaks ties between text types, if the name says nothing. */
export function judgeUrl(
  detection: Detection,
  { filename, originType }: { filename?: string | undefined; originType?: string | undefined },
): Verdict {
  const named = filename === undefined ? undefined : findTypeByExtension(filename)
  if ('refused' in detection) return unsupported(filename || 'The file', detection, named?.kind)
  if (filename !== undefined && isRefusedExtension(filename)) return refusedName(filename, detection.type)
  if (named !== undefined) return compare(filename || 'The file', detection.type, named, 'named as')
  const origin = originType === undefined ? undefined : findDeclaredType(originType)
  return { accepted: true, type: origin === undefined ? detection.type : settle(detection.type, origin) }
}

function compare(subject: string, actual: MediaType, claimed: MediaType | undefined, verb: string): Verdict {
  if (claimed === undefined || claimed === actual) return { accepted: true, type: actual }
  if (FAMILIES.some((family) => family.includes(actual.name) && family.includes(claimed.name))) {
    return { accepted: true, type: settle(actual, claimed) }
  }
  const fix = verb === 'named as' ? `Name it .${actual.extension}` : `Declare ${actual.contentType}`
  return {
    accepted: false,
    failure: 'content_mismatch',
    message: `${nameOf(subject)} is ${verb} ${claimed.name} (${claimed.contentType}) but its content is ${actual.name} (${actual.contentType}). ${fix}, or send ${claimed.name} content.`,
  }
}

/** The content's type, except where content is only "text" and the claim is a text type bytes cannot confirm. */
function settle(actual: MediaType, claimed: MediaType): MediaType {
  return actual.name === 'TXT' && UNMARKED.includes(claimed.name) ? claimed : actual
}

function unsupported(
  subject: string,
  { refused, format, kind }: Extract<Detection, { refused: string }>,
  claimedKind: MediaKind | undefined,
): Verdict {
  const reason = format === undefined ? 'that is not supported' : `${format} is not supported`
  return {
    accepted: false,
    failure: 'bad_file_type',
    message: `${subject} is ${refused}; ${reason}. Send ${supportedNames(kind ?? claimedKind)}.`,
  }
}

function refusedName(filename: string, actual: MediaType): Verdict {
  return {
    accepted: false,
    failure: 'bad_file_type',
    message: `${filename} has an extension that is not supported. Its content is ${actual.name}: name it .${actual.extension}.`,
  }
}

function undeclarable(filename: string | undefined, declared: string, actual: MediaType): Verdict {
  return {
    accepted: false,
    failure: 'bad_file_type',
    message: `${filename || 'The file'} is declared as ${declared}, which is not supported. Its content is ${actual.name}: declare ${actual.contentType}.`,
  }
}

/** The file's name, with the declared type where the name does not already say the same. */
function describeClaim(filename: string | undefined, declared: string | undefined): string {
  const name = filename || 'The file'
  const claimed = declared === undefined ? undefined : findDeclaredType(declared)
  if (declared === undefined || (claimed !== undefined && claimed === findTypeByExtension(name))) return name
  return `${name} (declared as ${declared})`
}

function nameOf(subject: string): string {
  return subject.replace(/ \(declared as [^)]*\)$/, '')
}
