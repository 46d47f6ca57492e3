/**
 * The truth about one file: what its name claims, what was declared, what it is, whether it may be sent and why not. This is
 * what `satchel check` prints and what the server logs when it refuses a file.
 */

import { Failure, type FailureName } from '../failure.ts'
import type { Bytes } from './bytes.ts'
import { type Details, describe } from './describe.ts'
import { type DetectHint, type Detection, detect } from './detect.ts'
import { judgeUpload, judgeUrl, type Verdict } from './judge.ts'
import { extensionOf, findTypeByExtension, UPLOAD_LIMIT_BYTES, URL_LIMIT_BYTES } from './types.ts'

export type Answer =
  | { readonly accepted: true; readonly contentType: string }
  | { readonly accepted: false; readonly failure: FailureName; readonly code: number; readonly message: string }

export type FileReport = Details & {
  readonly filename: string
  /** Without its dot; empty when there is none. */
  readonly extension: string
  /** The content type that extension stands for, when it is one of ours. */
  readonly extensionType?: string
  readonly declared?: string
  /** The content type of what was found, when it is accepted at all. */
  readonly detected?: string
  /** What was found, in words. */
  readonly content: string
  readonly sizeBytes: number
  /** As a pre-signed upload, and as the target of a media URL: the two differ in size limit and in what is the claim. */
  readonly upload: Answer
  readonly url: Answer
}

/**
 * Without `declared`, the extension stands for it; with `detection`, the file is not inspected a second time. Rejects as
 * detect() does, when the bytes cannot be read.
 */
export async function reportOn(
  file: Bytes,
  { filename, ...hint }: DetectHint & { readonly filename: string; readonly detection?: Detection },
): Promise<FileReport> {
  const named = findTypeByExtension(filename)
  const declared = hint.declared ?? named?.contentType
  const detection = hint.detection ?? (await detect(file, { ...hint, filename, declared }))
  const isKnown = 'type' in detection
  return {
    filename,
    extension: extensionOf(filename),
    ...(named !== undefined && { extensionType: named.contentType }),
    ...(hint.declared !== undefined && { declared: hint.declared }),
    ...(isKnown && { detected: detection.type.contentType }),
    content: contentOf(detection),
    sizeBytes: file.size,
    ...(isKnown && (await describe(file, detection.type))),
    upload: answer(judgeUpload(detection, { filename, declared }), file.size, UPLOAD_LIMIT_BYTES),
    url: answer(judgeUrl(detection, { filename }), file.size, URL_LIMIT_BYTES),
  }
}

function contentOf(detection: Detection): string {
  return 'type' in detection ? detection.type.name : detection.refused
}

/** Type before size, in the order the server asks. */
function answer(verdict: Verdict, sizeBytes: number, limitBytes: number): Answer {
  if (!verdict.accepted) return refusal(verdict.failure, verdict.message)
  if (sizeBytes <= limitBytes) return { accepted: true, contentType: verdict.type.contentType }
  return refusal('file_too_large', `The file has ${sizeBytes} bytes; at most ${limitBytes} are allowed.`)
}

function refusal(failure: FailureName, message: string): Answer {
  return { accepted: false, failure, code: new Failure(failure).code, message }
}
