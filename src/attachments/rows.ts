/** Attachments: what is known about a file. The bytes are in storage under `storage_key`. */
import { prepared } from '../db/prepared.ts'
import type { Db, NewRow, Row } from '../db/schema.ts'

export type AttachmentRow = Row<'attachments'>

/** True from the moment on that the attachment must no longer be seen. */
export const isVanished = (row: Pick<AttachmentRow, 'vanishes_at'>, now: number): boolean =>
  row.vanishes_at !== null && row.vanishes_at <= now

const insertion = prepared((db, row: NewRow<'attachments'>) => db.insertInto('attachments').values(row))

export async function insertAttachment(db: Db, row: NewRow<'attachments'>): Promise<void> {
  await insertion.write(db, row)
}

const byId = prepared((db, { id }: { id: string }) => db.selectFrom('attachments').selectAll().where('id', '=', id))

/** Whoever owns it: for the ports that need no API key. */
export function findAttachment(db: Db, id: string): Promise<AttachmentRow | undefined> {
  return byId.first(db, { id })
}

export async function findOwnAttachment(db: Db, partnerId: string, id: string): Promise<AttachmentRow | undefined> {
  const row = await findAttachment(db, id)
  return row?.partner_id === partnerId ? row : undefined
}

const hold = prepared((tx, { ids }: { ids: readonly string[] }) =>
  tx.selectFrom('attachments').selectAll().where('id', 'in', ids).orderBy('id').forKeyShare(),
)

/** Until the transaction ends nobody can delete these: those that are still there. */
export function holdAttachments(tx: Db, ids: readonly string[]): Promise<AttachmentRow[]> {
  return hold.all(tx, { ids })
}

type Found = { content_type: string; storage_key: string; sha256: string; completed_at: number }

const completion = prepared((db, { id, found }: { id: string; found: Found }) =>
  db
    .updateTable('attachments')
    .set({ ...found, status: 'complete', refusal: null, refusal_message: null })
    .where('id', '=', id)
    .where('status', '!=', 'complete'),
)

/** True when the attachment became complete now; false when it was complete before, or is gone. */
export async function setComplete(db: Db, id: string, found: Found): Promise<boolean> {
  return (await completion.write(db, { id, found })) === 1
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

/** Returns when it vanishes now: what was set before stays. undefined: it is gone. */
export async function setVanishesAt(db: Db, id: string, at: number): Promise<number | undefined> {
  const row = await db
    .updateTable('attachments')
    .set((eb) => ({ vanishes_at: eb.fn.coalesce('vanishes_at', eb.val(at)) }))
    .where('id', '=', id)
    .returning('vanishes_at')
    .executeTakeFirst()
  return row?.vanishes_at ?? undefined
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

const ROWS_AT_A_TIME = 500

/** The audit, oldest first, a page at a time. */
export async function* listDeletions(
  db: Db,
  o: { partnerId: string | undefined; since: number },
): AsyncGenerator<Row<'attachment_deletions'>> {
  let query = db.selectFrom('attachment_deletions').selectAll().orderBy('deleted_at').orderBy('attachment_id')
  if (o.partnerId !== undefined) query = query.where('partner_id', '=', o.partnerId)
  for (let after = { deleted_at: o.since, attachment_id: '' }; ; ) {
    const { deleted_at, attachment_id } = after
    const page = await query
      .where((eb) => eb(eb.refTuple('deleted_at', 'attachment_id'), '>', eb.tuple(deleted_at, attachment_id)))
      .limit(ROWS_AT_A_TIME)
      .execute()
    yield* page
    const last = page.at(-1)
    if (!last || page.length < ROWS_AT_A_TIME) return
    after = last
  }
}
