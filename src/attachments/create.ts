/** Step one of a pre-upload: checks what is declared, keeps a pending row, and hands out a signed URL for the bytes. */
import type { App } from '../app.ts'
import { systemClock } from '../clock.ts'
import { inTransaction } from '../db/transaction.ts'
import { Failure } from '../failure.ts'
import { iso } from '../http/schemas.ts'
import { findDeclaredType, isRefusedExtension, supportedNames, UPLOAD_LIMIT_BYTES } from '../media/types.ts'
import { presign } from '../sigv4.ts'
import { stagingKey } from '../storage/staging.ts'
import { keepAttachment, vanishTime } from './ephemeral.ts'
import { cleanFilename } from './filename.ts'
import { addressOf } from './links.ts'
import { insertAttachment } from './rows.ts'
import { planSettling } from './settle.ts'

const UPLOAD_SECONDS = 15 * 60
const LONGEST_TYPE = 255
const KINDS = ['image', 'video', 'audio'] as const

export type CreateAttachment = { partnerId: string; filename: string; content_type: string; size_bytes: number }

/** Failures: bad_parameter, bad_file_type, file_too_large. The order of the checks is the contract's (1.1). */
export async function createAttachment(app: App, input: CreateAttachment) {
  const filename = cleanFilename(input.filename)
  const type = checkType(filename, input.content_type)
  checkSize(input.size_bytes)

  const now = app.clock.now()
  const id = app.newId()
  const expiresAt = Math.floor(now / 1000) * 1000 + UPLOAD_SECONDS * 1000
  const headers = { 'Content-Type': input.content_type, 'Content-Length': String(input.size_bytes) }
  const uploadUrl = await signUploadUrl(app, { id, headers, now })
  const row = {
    id,
    partner_id: input.partnerId,
    filename,
    declared_type: input.content_type,
    content_type: type.contentType,
    size_bytes: input.size_bytes,
    status: 'pending' as const,
    source: 'upload' as const,
    storage_key: null,
    sha256: null,
    refusal: null,
    refusal_message: null,
    created_at: now,
    upload_expires_at: expiresAt,
    completed_at: null,
    vanishes_at: await vanishTime(app.db, input.partnerId, now),
  }
  const isDirect = app.direct?.offered === true
  if (row.vanishes_at === null && !isDirect) await insertAttachment(app.db, row)
  else {
    await inTransaction(app.db, async (tx) => {
      await keepAttachment(tx, row)
      if (isDirect) await planSettling(tx, app, { attachment_id: id, runAt: expiresAt, last: false })
    })
  }
  app.metrics.attachments.inc({ outcome: 'created' })
  return {
    attachment_id: id,
    upload_url: uploadUrl,
    download_url: addressOf(app, row),
    http_method: 'PUT' as const,
    expires_at: iso(expiresAt),
    required_headers: headers,
  }
}

/** To the bucket itself, by its own clock, or to our edge. Failure upload_url_failed: there are no credentials to sign with. */
async function signUploadUrl(
  app: App,
  o: { id: string; headers: { 'Content-Type': string; 'Content-Length': string }; now: number },
): Promise<string> {
  const { id, headers, now } = o
  const expiresSeconds = UPLOAD_SECONDS
  if (!app.direct?.offered) {
    return presign(app.signingKey, {
      method: 'PUT',
      url: `${app.urls.cdn}/uploads/${id}`,
      headers,
      now,
      expiresSeconds,
    })
  }
  try {
    return await app.direct.staging.uploadUrl({
      key: stagingKey(id),
      contentType: headers['Content-Type'],
      sizeBytes: Number(headers['Content-Length']),
      now: systemClock.now(),
      expiresSeconds,
    })
  } catch (error) {
    throw new Failure('upload_url_failed', undefined, { cause: error })
  }
}

function checkType(filename: string, declared: string) {
  if (declared.length > LONGEST_TYPE) {
    throw new Failure('bad_parameter', `content_type must have at most ${LONGEST_TYPE} characters`)
  }
  const type = /^[\x20-\x7e]+$/.test(declared) ? findDeclaredType(declared) : undefined
  if (!type) {
    const shown = declared.replace(/[^\x20-\x7e]/g, '?').slice(0, 100)
    const kind = KINDS.find((name) => shown.toLowerCase().startsWith(`${name}/`))
    throw new Failure('bad_file_type', `content_type "${shown}" is not supported. Send ${supportedNames(kind)}.`)
  }
  if (isRefusedExtension(filename)) {
    throw new Failure('bad_file_type', `filename: files of this extension are not supported. Send ${supportedNames()}.`)
  }
  return type
}

function checkSize(sizeBytes: number): void {
  if (sizeBytes < 1) throw new Failure('bad_parameter', 'size_bytes must be at least 1')
  if (sizeBytes > UPLOAD_LIMIT_BYTES) {
    throw new Failure('file_too_large', `size_bytes must be at most ${UPLOAD_LIMIT_BYTES} (100 MB)`)
  }
}
