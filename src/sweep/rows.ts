/** What a comparison with the storage reads. */
import type { Db } from '../db/schema.ts'

export type Stored = { id: string; storage_key: string; size_bytes: number }

const ROWS_AT_A_TIME = 1_000

/** Every complete attachment by its key, in the database's order, a page at a time. */
export async function* listStored(db: Db): AsyncGenerator<Stored> {
  for (let after = ''; ; ) {
    const page = await db
      .selectFrom('attachments')
      .select(['id', 'storage_key', 'size_bytes'])
      .where('storage_key', '>', after)
      .orderBy('storage_key')
      .limit(ROWS_AT_A_TIME)
      .execute()
    for (const row of page) if (row.storage_key !== null) yield { ...row, storage_key: row.storage_key }
    const last = page.at(-1)?.storage_key
    if (!last || page.length < ROWS_AT_A_TIME) return
    after = last
  }
}

export async function findStored(db: Db, keys: readonly string[]): Promise<Stored[]> {
  const rows = await db
    .selectFrom('attachments')
    .select(['id', 'storage_key', 'size_bytes'])
    .where('storage_key', 'in', [...keys])
    .execute()
  return rows as Stored[]
}

/** Says that the bytes lie elsewhere now. False: nobody has them under `from` any more. */
export async function moveStored(db: Db, { from, to }: { from: string; to: string }): Promise<boolean> {
  const query = db.updateTable('attachments').set({ storage_key: to }).where('storage_key', '=', from)
  return (await query.executeTakeFirst()).numUpdatedRows > 0n
}

/** Whether the database has ever had an attachment: one that has not is hardly the one that belongs to a full storage. */
export async function hasHistory(db: Db): Promise<boolean> {
  const [attachment, deletion] = await Promise.all([
    db.selectFrom('attachments').select('id').limit(1).executeTakeFirst(),
    db.selectFrom('attachment_deletions').select('attachment_id').limit(1).executeTakeFirst(),
  ])
  return attachment !== undefined || deletion !== undefined
}

/** Those of the attachments whose upload may still be under way, or may be looked at right now. */
export async function findStaged(db: Db, ids: readonly string[]): Promise<{ id: string; upload_expires_at: number }[]> {
  if (ids.length === 0) return []
  return await db
    .selectFrom('attachments')
    .select(['id', 'upload_expires_at'])
    .where('id', 'in', [...ids])
    .where('status', '=', 'pending')
    .execute()
}

/** Those of the keys that a job is about to delete. */
export async function findDeletionJobs(db: Db, keys: readonly string[]): Promise<Set<string>> {
  const rows = await db
    .selectFrom('jobs')
    .select('payload')
    .where('kind', '=', 'bytes.delete')
    .where('failed_at', 'is', null)
    .where(
      'payload',
      'in',
      keys.map((storage_key) => JSON.stringify({ storage_key })),
    )
    .execute()
  return new Set(rows.map(({ payload }) => (JSON.parse(payload) as { storage_key: string }).storage_key))
}
