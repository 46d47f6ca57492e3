/** Attachments: what is known about a file. The bytes are in storage under `storage_key`. */
import type { Db, NewRow, Row } from '../db/schema.ts'

export type AttachmentRow = Row<'attachments'>

export async function insertAttachment(db: Db, row: NewRow<'attachments'>): Promise<void> {
  await db.insertInto('attachments').values(row).execute()
}

/** Whoever owns it: for the ports that need no API key. */
export function findAttachment(db: Db, id: string): Promise<AttachmentRow | undefined> {
  return db.selectFrom('attachments').selectAll().where('id', '=', id).executeTakeFirst()
}

export async function findOwnAttachment(db: Db, partnerId: string, id: string): Promise<AttachmentRow | undefined> {
  const row = await findAttachment(db, id)
  return row?.partner_id === partnerId ? row : undefined
}

/** True when the attachment became complete now; false when it was complete before, or is gone. */
export async function setComplete(
  db: Db,
  id: string,
  found: { content_type: string; storage_key: string; sha256: string; completed_at: number },
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('attachments')
    .set({ ...found, status: 'complete', refusal: null, refusal_message: null })
    .where('id', '=', id)
    .where('status', '!=', 'complete')
    .executeTakeFirst()
  return numUpdatedRows === 1n
}

/** False when the attachment is complete or gone: then nothing was written. */
export async function setFailed(
  db: Db,
  id: string,
  why: { refusal: 'bad_file_type' | 'content_mismatch'; refusal_message: string },
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('attachments')
    .set({ ...why, status: 'failed' })
    .where('id', '=', id)
    .where('status', '!=', 'complete')
    .executeTakeFirst()
  return numUpdatedRows === 1n
}

/** The row that was there, or undefined. */
export function removeAttachment(db: Db, partnerId: string, id: string): Promise<AttachmentRow | undefined> {
  return db
    .deleteFrom('attachments')
    .where('id', '=', id)
    .where('partner_id', '=', partnerId)
    .returningAll()
    .executeTakeFirst()
}

export async function insertDeletion(db: Db, row: NewRow<'attachment_deletions'>): Promise<void> {
  await db.insertInto('attachment_deletions').values(row).execute()
}
