/** Deletion: the row goes at once, and with it every address; the bytes go by a job of the same transaction. */
import type { App } from '../app.ts'
import { inTransaction } from '../db/transaction.ts'
import { Failure } from '../failure.ts'
import { enqueue } from '../jobs/jobs.ts'
import { stagingKey } from '../storage/staging.ts'
import { forgetAttachment } from './ephemeral.ts'
import { addressOf } from './links.ts'
import { findOwnAttachment, isVanished } from './rows.ts'

/** Failure attachment_not_found. Messages that used the attachment stay. */
export async function deleteAttachment(app: App, partnerId: string, id: string): Promise<void> {
  await inTransaction(app.db, async (tx) => {
    const row = await findOwnAttachment(tx, partnerId, id.toLowerCase())
    if (!row || isVanished(row, app.clock.now())) throw new Failure('attachment_not_found')
    await forgetAttachment(tx, app, row, 'request')
    if (app.direct && row.status !== 'complete') {
      const payload = { storage_key: stagingKey(row.id) }
      await enqueue(tx, { id: app.newId(), kind: 'bytes.delete', payload, runAt: app.clock.now() })
    }
    if (app.purge && row.status === 'complete' && row.vanishes_at === null) {
      const payload = { urls: [addressOf(app, row)] }
      await enqueue(tx, { id: app.newId(), kind: 'cdn.purge', payload, runAt: app.clock.now() })
    }
  })
  app.metrics.attachments.inc({ outcome: 'deleted' })
}
