/**
 * The end of an upload that went straight to the bucket. Nobody tells us that the bytes are there, so we look when the
 * attachment is asked for, and by a job when its upload URL expires. What lies under the staging key can still be replaced by
 * the client: it is copied to a key of its own first, and the copy is what is inspected, recorded and served.
 */
import { createHash } from 'node:crypto'
import { addAbortSignal } from 'node:stream'
import type { App } from '../app.ts'
import { Failure } from '../failure.ts'
import { enqueue } from '../jobs/jobs.ts'
import { TextScan } from '../media/text-scan.ts'
import { newStorageKey } from '../storage/key.ts'
import { type Staging, stagingKey } from '../storage/staging.ts'
import { actOutNotReady, completeAttachment, type Uploaded } from './complete.ts'
import { type AttachmentRow, findAttachment, findOwnAttachment } from './rows.ts'

export type DirectUploads = {
  readonly staging: Staging
  /** False: uploads go through the edge, and only those that began before it was so set come this way. */
  readonly offered: boolean
  /** By attachment, so that all who ask at once share one look. */
  readonly settling: Map<string, Promise<void>>
}

type DirectApp = App & { readonly direct: DirectUploads }

/** A PUT that began before its URL expired may take so long to end. */
const LATE_MS = 3_600_000
const AGAIN_MS = 30_000
/** Below the 60 seconds that clients wait for an answer. */
const TIME_LIMIT_MS = 40_000

const isDirect = (app: App): app is DirectApp => app.direct !== undefined

/**
 * To be called before an attachment is shown, sent or served, never inside a transaction. Does nothing where uploads go
 * through the edge, or where nothing can have changed. Failure storage_unavailable when the bucket cannot be asked.
 */
export async function settleFirst(app: App, partnerId: string, id: string): Promise<void> {
  if (!isDirect(app) || !app.direct.offered) return
  const row = await findOwnAttachment(app.db, partnerId, id.toLowerCase())
  if (row && isOpen(row) && app.clock.now() <= row.upload_expires_at + LATE_MS) await settleOnce(app, row)
}

/** The job that creation leaves for the end of the URL, and with `last` once more when no late upload can be under way. */
export async function settleAtEnd(app: App, o: { attachment_id: string; last: boolean }): Promise<void> {
  if (!isDirect(app)) return
  const row = await findAttachment(app.db, o.attachment_id)
  try {
    if (row && isOpen(row)) await settleOnce(app, row)
  } catch (error) {
    if (!(error instanceof Failure) || error.failure !== 'storage_unavailable') throw error
    // However long the bucket is away: what the client has uploaded is not given up.
    app.log.warn({ err: error.cause, attachment_id: o.attachment_id }, 'an upload cannot be settled yet')
    await planSettling(app.db, app, { ...o, runAt: app.clock.now() + AGAIN_MS })
    return
  }
  const now = row && (await findAttachment(app.db, row.id))
  if (o.last || !now || !isOpen(now)) await app.storage.delete(stagingKey(o.attachment_id))
  if (!o.last) await planSettling(app.db, app, { ...o, runAt: app.clock.now() + LATE_MS, last: true })
}

export async function planSettling(
  tx: App['db'],
  app: Pick<App, 'newId'>,
  o: { attachment_id: string; runAt: number; last: boolean },
): Promise<void> {
  const { attachment_id, last, runAt } = o
  await enqueue(tx, { id: app.newId(), kind: 'upload.settle', payload: { attachment_id, last }, runAt })
}

/** Content that was refused may be replaced by other content, as long as the URL lives. */
const isOpen = (row: AttachmentRow): boolean => row.source === 'upload' && row.status !== 'complete'

function settleOnce(app: DirectApp, row: AttachmentRow): Promise<void> {
  const { settling } = app.direct
  const underWay = settling.get(row.id)
  if (underWay) return underWay
  const work = settle(app, row).finally(() => settling.delete(row.id))
  settling.set(row.id, work)
  return work
}

async function settle(app: DirectApp, row: AttachmentRow): Promise<void> {
  const staged = stagingKey(row.id)
  const found = await app.storage.stat(staged)
  if (found?.size !== row.size_bytes) return
  const storageKey = newStorageKey(app.newId)
  const signal = AbortSignal.timeout(TIME_LIMIT_MS)
  try {
    const uploaded = (await copyStaged(app, row, storageKey, signal)) && (await readCopy(app, row, storageKey, signal))
    if (!uploaded) {
      await app.storage.delete(storageKey)
      return
    }
    actOutNotReady(app, row)
    const { outcome } = await completeAttachment(app, row, uploaded, signal)
    if (outcome === 'complete') app.metrics.received.inc({ source: 'upload' }, row.size_bytes)
    // What was put there since is another try: it stays to be looked at.
    if (outcome !== 'refused' || (await app.storage.stat(staged))?.modified === found.modified) {
      await app.storage.delete(staged)
    }
  } catch (error) {
    throw signal.aborted ? new Failure('storage_unavailable', undefined, { cause: error }) : error
  }
}

/** False: it is not there any more; another node was faster. Whatever else happens may have made a copy all the same. */
async function copyStaged(
  app: DirectApp,
  row: AttachmentRow,
  storageKey: string,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    return await app.direct.staging.copy(stagingKey(row.id), storageKey, signal)
  } catch (error) {
    await app.storage.delete(storageKey).catch(() => {})
    throw error
  }
}

/** Hashes the copy from end to end. undefined: it is not what was declared; a PUT came between the look and the copy. */
async function readCopy(
  app: App,
  row: AttachmentRow,
  storageKey: string,
  signal: AbortSignal,
): Promise<Uploaded | undefined> {
  const sha256 = createHash('sha256')
  const text = new TextScan()
  try {
    const body = await app.storage.get(storageKey)
    if (!body) return undefined
    for await (const chunk of addAbortSignal(signal, body)) {
      sha256.update(chunk)
      text.update(chunk)
    }
  } catch (error) {
    await app.storage.delete(storageKey).catch(() => {})
    throw error instanceof Failure ? error : new Failure('storage_unavailable', undefined, { cause: error })
  }
  return text.size === row.size_bytes ? { storageKey, sha256: sha256.digest('hex'), text } : undefined
}
