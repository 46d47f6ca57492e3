/** Deletion: the row goes at once, and with it every address; the bytes go by a job of the same transaction. */
import type { App } from '../app.ts'
import { Failure } from '../failure.ts'
import { enqueue } from '../jobs/jobs.ts'
import { insertDeletion, removeAttachment } from './rows.ts'

/** Failure attachment_not_found. Messages that used the attachment stay. */
export async function deleteAttachment(app: App, partnerId: string, id: string): Promise<void> {
  await app.db.transaction().execute(async (tx) => {
    const row = await removeAttachment(tx, partnerId, id.toLowerCase())
    if (!row) throw new Failure('attachment_not_found')
    const now = app.clock.now()
    await insertDeletion(tx, { attachment_id: row.id, partner_id: partnerId, deleted_at: now })
    if (row.storage_key) {
      const payload = { storage_key: row.storage_key }
      await enqueue(tx, { id: app.newId(), kind: 'bytes.delete', payload, runAt: now })
    }
  })
  app.metrics.attachments.inc({ outcome: 'deleted' })
}
