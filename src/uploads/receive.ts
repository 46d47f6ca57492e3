/**
 * Takes the bytes of an upload: streamed to storage, counted and hashed on the way, never whole in memory. Only where the
 * storage has a faster way for small ones are those gathered, and then a file that is refused never touches the disk.
 * Success is answered only when the bytes are stored, looked at and on record.
 */
import { createHash, type Hash, hash } from 'node:crypto'
import type { Readable } from 'node:stream'
import type { App } from '../app.ts'
import { actOutNotReady, completeAttachment, type Uploaded } from '../attachments/complete.ts'
import { isComplete } from '../attachments/get.ts'
import type { AttachmentRow } from '../attachments/rows.ts'
import { TextScan } from '../media/text-scan.ts'
import { release } from '../storage/blocks.ts'
import { collect } from '../storage/collect.ts'
import { newStorageKey } from '../storage/key.ts'
import { BodyTooLong, BodyTooShort, type SmallObjects } from '../storage/storage.ts'
import { hashing } from './digests.ts'

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
  if (isComplete(row)) return await compare(row, body, signal)
  const { small } = app.storage
  const size = row.size_bytes
  if (!small || size > small.maxBytes || gatheredBytes + size > GATHERED_BYTES) {
    return await conclude(app, row, await stream(app, row, body, signal), signal)
  }
  gatheredBytes += size
  try {
    const collected = await collect(body, size, signal)
    const received = await conclude(app, row, summarize(collected, small), signal)
    release(collected)
    return received
  } finally {
    gatheredBytes -= size
  }
}

/** What all uploads together have in memory, by the sizes that were promised; beyond that they are streamed. */
const GATHERED_BYTES = 32 * 1024 * 1024
let gatheredBytes = 0

type TakenIn = Uploaded & { md5: string }

function summarize(body: Buffer, small: SmallObjects): TakenIn {
  const text = new TextScan()
  text.update(body)
  return { body, small, sha256: hash('sha256', body), md5: hash('md5', body), text }
}

async function stream(app: App, row: AttachmentRow, body: Readable, signal: AbortSignal): Promise<TakenIn> {
  const text = new TextScan()
  using digests = hashing(row.size_bytes)
  const storageKey = newStorageKey(app.newId)
  await app.storage.put(storageKey, body, row.size_bytes, {
    signal,
    onChunk(piece) {
      text.update(piece)
      return digests.update(piece)
    },
  })
  const found = await digests.digest().catch(async (error) => {
    await app.storage.delete(storageKey)
    throw error
  })
  return { storageKey, ...found, text }
}

async function conclude(app: App, row: AttachmentRow, taken: TakenIn, signal: AbortSignal): Promise<Received> {
  app.metrics.received.inc({ source: 'upload' }, row.size_bytes)
  actOutNotReady(app, row)
  const completion = await completeAttachment(app, row, taken, signal)
  if (completion.outcome === 'gone') return { outcome: 'gone' }
  if (completion.outcome === 'taken' && completion.row.sha256 !== taken.sha256) return { outcome: 'changed' }
  return { outcome: 'stored', md5: taken.md5 }
}

/** The repetition of an upload that succeeded. */
async function compare(row: AttachmentRow, body: Readable, signal: AbortSignal): Promise<Received> {
  const [sha256, md5] = [createHash('sha256'), createHash('md5')]
  await drain(body, row.size_bytes, [sha256, md5], signal)
  return sha256.digest('hex') === row.sha256 ? { outcome: 'stored', md5: md5.digest('hex') } : { outcome: 'changed' }
}

/** Hashes a body that need not be kept. */
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
