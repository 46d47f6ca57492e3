/** Deletion: the row goes at once, and with it every address; the bytes go by a job of the same transaction. */
import type { App } from '../app.ts'
import { inTransaction } from '../db/transaction.ts'
import { Failure } from '../failure.ts'
import { forgetAttachment, isVanished } from './ephemeral.ts'
import { findOwnAttachment } from './rows.ts'

/** Failure attachment_not_found. Messages that used the attachment stay. */
export async function deleteAttachment(app: App, partnerId: string, id: string): Promise<void> {
  await inTransaction(app.db, async (tx) => {
    const row = await findOwnAttachment(tx, partnerId, id.toLowerCase())
    if (!row || isVanished(row, app.clock.now())) throw new Failure('attachment_not_found')
    await forgetAttachment(tx, app, row, 'request')
  })
  app.metrics.attachments.inc({ outcome: 'deleted' })
}
