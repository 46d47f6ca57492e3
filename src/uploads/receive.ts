/**
 * Takes the bytes of an upload: streamed to storage, counted and hashed on the way, never whole in memory. Success is
 * answered only when they are stored, looked at and on record.
 */
import { createHash, type Hash } from 'node:crypto'
import type { Readable } from 'node:stream'
import type { App } from '../app.ts'
import { actOutNotReady, completeAttachment } from '../attachments/complete.ts'
import { isComplete } from '../attachments/get.ts'
import type { AttachmentRow } from '../attachments/rows.ts'
import { TextScan } from '../media/text-scan.ts'
import { newStorageKey } from '../storage/key.ts'
import { BodyTooLong, BodyTooShort } from '../storage/storage.ts'

export type Received = { outcome: 'stored'; md5: string } | { outcome: 'gone' } | { outcome: 'changed' }

/**
 * `changed`: the attachment is complete with other bytes and stays as it is. Rejects with BodyTooShort, BodyTooLong, a
 * Failure of the storage or the abort's reason; then nothing was kept and the upload may be repeated.
 */
export async function receiveUpload(
  app: App,
  row: AttachmentRow,
  body: Readable,
  signal: AbortSignal,
): Promise<Received> {
  const sha256 = createHash('sha256')
  const md5 = createHash('md5')
  if (isComplete(row)) {
    await drain(body, row.size_bytes, [sha256, md5], signal)
    return sha256.digest('hex') === row.sha256 ? { outcome: 'stored', md5: md5.digest('hex') } : { outcome: 'changed' }
  }
  const storageKey = newStorageKey(app.newId)
  const text = new TextScan()
  await app.storage.put(storageKey, body, row.size_bytes, {
    signal,
    onChunk(chunk) {
      sha256.update(chunk)
      md5.update(chunk)
      text.update(chunk)
    },
  })
  app.metrics.received.inc({ source: 'upload' }, row.size_bytes)
  const uploaded = { storageKey, sha256: sha256.digest('hex'), text }
  actOutNotReady(app, row)
  const completion = await completeAttachment(app, row, uploaded, signal)
  if (completion.outcome === 'gone') return { outcome: 'gone' }
  if (completion.outcome === 'taken' && completion.row.sha256 !== uploaded.sha256) return { outcome: 'changed' }
  return { outcome: 'stored', md5: md5.digest('hex') }
}

/** Hashes a body that need not be kept: the repetition of an upload that succeeded. */
async function drain(body: Readable, size: number, hashes: Hash[], signal: AbortSignal): Promise<void> {
  let received = 0
  try {
    // The socket outlives a body that is too long: its sender is to see the refusal.
    for await (const chunk of body.iterator({ destroyOnReturn: false })) {
      signal.throwIfAborted()
      received += chunk.length
      if (received > size) throw new BodyTooLong(`the body has more than ${size} bytes`)
      for (const hash of hashes) hash.update(chunk)
    }
  } catch (error) {
    signal.throwIfAborted()
    throw error instanceof BodyTooLong ? error : new BodyTooShort('the body broke off')
  }
  if (received < size) throw new BodyTooShort(`the body has ${received} bytes of ${size}`)
}
