/**
 * The end of an upload: the bytes are looked at, and the row says what they are. Whoever finishes first wins; bytes that were
 * inspected are the bytes that are served, for ever.
 */
import type { App } from '../app.ts'
import { bufferBytes } from '../media/bytes.ts'
import { detect } from '../media/detect.ts'
import { judgeUpload, type Verdict } from '../media/judge.ts'
import { reportOn } from '../media/report.ts'
import type { TextScan } from '../media/text-scan.ts'
import { type SmallObjects, storedBytes } from '../storage/storage.ts'
import { type AttachmentRow, findAttachment, setComplete, setFailed } from './rows.ts'

/** The bytes are in storage already, or in memory, and then they get into storage only once they are accepted. */
export type Uploaded = { sha256: string; text: TextScan } & (
  | { storageKey: string }
  | { body: Buffer; small: SmallObjects }
)

/** `gone`: deleted meanwhile. `taken`: another upload was complete before, and `row` is how it stands now. */
export type Completion = { outcome: 'complete' | 'refused' | 'gone' } | { outcome: 'taken'; row: AttachmentRow }

/** The sandbox's fault that makes an upload look unfinished for some seconds. */
export function actOutNotReady({ sandbox, clock }: App, row: AttachmentRow): void {
  const held = sandbox?.faults.take('upload_not_ready', row.partner_id, { attachment_id: row.id })
  if (held) sandbox?.faults.holdBack(row.partner_id, row.id, clock.now() + (held.seconds ?? 5) * 1000)
}

/**
 * Inspects and completes. The stored object is kept exactly when the outcome is `complete`, and deleted otherwise, but for
 * one case: when the last write rejects, nobody knows whether it happened, and the bytes stay (`sweep` finds them).
 */
export async function completeAttachment(
  app: App,
  row: AttachmentRow,
  uploaded: Uploaded,
  signal: AbortSignal,
): Promise<Completion> {
  const verdict = await inspect(app, row, uploaded, signal)
  if (verdict.accepted) {
    const storageKey = 'body' in uploaded ? await uploaded.small.append(uploaded.body) : uploaded.storageKey
    const isFirst = await setComplete(app.db, row.id, {
      content_type: verdict.type.contentType,
      storage_key: storageKey,
      sha256: uploaded.sha256,
      completed_at: app.clock.now(),
    })
    if (isFirst) {
      app.metrics.attachments.inc({ outcome: 'complete' })
      return { outcome: 'complete' }
    }
    await app.storage.delete(storageKey)
  } else {
    await discard(app, uploaded)
    const why = { refusal: verdict.failure, refusal_message: verdict.message }
    if (await setFailed(app.db, row.id, why)) {
      app.metrics.attachments.inc({ outcome: 'failed' })
      return { outcome: 'refused' }
    }
  }
  const now = await findAttachment(app.db, row.id)
  return now ? { outcome: 'taken', row: now } : { outcome: 'gone' }
}

async function discard(app: App, uploaded: Uploaded): Promise<void> {
  if ('storageKey' in uploaded) await app.storage.delete(uploaded.storageKey)
}

/** Nothing of an upload that could not be looked at, or whose sender went away, is kept. */
async function inspect(app: App, row: AttachmentRow, uploaded: Uploaded, signal: AbortSignal): Promise<Verdict> {
  const { text } = uploaded
  const hint = { filename: row.filename, declared: row.declared_type }
  try {
    const file =
      'body' in uploaded
        ? bufferBytes(uploaded.body)
        : storedBytes(app.storage, uploaded.storageKey, row.size_bytes, { keep: row.vanishes_at === null })
    const detection = await detect(file, { ...hint, text, signal })
    const verdict = judgeUpload(detection, hint)
    if (!verdict.accepted) {
      app.log.info({ attachment_id: row.id, report: await reportOn(file, { ...hint, detection }) }, 'upload refused')
    }
    return verdict
  } catch (error) {
    await discard(app, uploaded)
    throw error
  }
}
