/**
 * The ephemeral tier (contract 1.7), switched on for a partner or a line: bytes and all that is known of them vanish 24 hours
 * after creation. A job of the creating transaction does it; from that moment on the attachment counts as deleted even when
 * the job is late. Nothing makes an ephemeral attachment permanent again.
 */
import type { App } from '../app.ts'
import type { Db } from '../db/schema.ts'
import { inTransaction } from '../db/transaction.ts'
import { enqueue } from '../jobs/jobs.ts'
import { findTier } from '../partners/rows.ts'
import { addressOf } from './links.ts'
import {
  type AttachmentRow,
  findAttachment,
  insertAttachment,
  insertDeletion,
  isVanished,
  removeAttachment,
  setVanishesAt,
} from './rows.ts'

export const EPHEMERAL_MS = 24 * 3_600_000

/** When a new attachment of this partner vanishes; null: never. */
export async function vanishTime(db: Db, partnerId: string, now: number): Promise<number | null> {
  const { partner } = await findTier(db, { partnerId })
  return partner ? now + EPHEMERAL_MS : null
}

type Maker = Pick<App, 'newId' | 'clock'>
type User = Pick<App, 'newId' | 'clock' | 'urls' | 'signingKey' | 'purge'>

/** Inserts the row and, where it is to vanish, the job for that. Call it with the transaction of what it belongs to. */
export async function keepAttachment(tx: Db, row: AttachmentRow): Promise<void> {
  await insertAttachment(tx, row)
  if (row.vanishes_at !== null) await planVanishing(tx, row.id, row.vanishes_at)
}

/**
 * Files that are used with a line, as they are from then on: on an ephemeral line the permanent ones become ephemeral. They
 * vanish 24 hours after creation; those that are older than that already, 24 hours after this first use. Caches before us are
 * told to forget the permanent address. Call it in the transaction of the message, with the rows inserted.
 */
export async function useWithLine<T extends AttachmentRow>(
  tx: Db,
  app: User,
  line: { partnerId: string; phoneNumber: string },
  files: readonly T[],
): Promise<T[]> {
  if (files.length === 0 || !(await findTier(tx, line)).line) return [...files]
  const now = app.clock.now()
  const used: T[] = []
  for (const file of files) {
    const end = file.created_at + EPHEMERAL_MS
    const vanishes_at = (await setVanishesAt(tx, file.id, end > now ? end : now + EPHEMERAL_MS)) ?? null
    if (vanishes_at !== null) await planVanishing(tx, file.id, vanishes_at)
    if (app.purge && file.vanishes_at === null) {
      const payload = { urls: [addressOf(app, file)] }
      await enqueue(tx, { id: app.newId(), kind: 'cdn.purge', payload, runAt: now })
    }
    used.push({ ...file, vanishes_at })
  }
  return used
}

/** The job attachment.vanish. Safe to repeat. */
export async function vanish(app: Pick<App, 'db' | 'clock' | 'newId' | 'metrics'>, id: string): Promise<void> {
  const now = app.clock.now()
  const gone = await inTransaction(app.db, async (tx) => {
    const row = await findAttachment(tx, id)
    if (!row || row.vanishes_at === null) return false
    if (!isVanished(row, now)) {
      // The clock was put back between the claim and now.
      await enqueue(tx, {
        id: app.newId(),
        kind: 'attachment.vanish',
        payload: { attachment_id: id },
        runAt: row.vanishes_at,
      })
      return false
    }
    await forgetAttachment(tx, app, row, 'vanished')
    return true
  })
  if (gone) app.metrics.attachments.inc({ outcome: 'vanished' })
}

/** Removes the row, notes that in the audit and has the bytes deleted, all in the transaction that it is given. */
export async function forgetAttachment(
  tx: Db,
  app: Maker,
  row: AttachmentRow,
  reason: 'request' | 'vanished',
): Promise<void> {
  const now = app.clock.now()
  const removed = await removeAttachment(tx, row.partner_id, row.id)
  if (!removed) return
  await insertDeletion(tx, { attachment_id: row.id, partner_id: row.partner_id, deleted_at: now, reason })
  if (removed.storage_key === null) return
  const payload = { storage_key: removed.storage_key }
  await enqueue(tx, { id: app.newId(), kind: 'bytes.delete', payload, runAt: now })
}

async function planVanishing(tx: Db, id: string, runAt: number): Promise<void> {
  await enqueue(tx, { id: `vanish:${id}`, kind: 'attachment.vanish', payload: { attachment_id: id }, runAt })
}
