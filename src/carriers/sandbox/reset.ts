/** Back to the state after start: everything of a partner goes but its keys and lines. */
import type { App } from '../../app.ts'
import { inTransaction } from '../../db/transaction.ts'
import { enqueue } from '../../jobs/jobs.ts'

/** One transaction; the bytes go by jobs of it. What the phone network still plans for its messages comes to nothing. */
export async function resetPartner(app: App, partnerId: string): Promise<void> {
  await inTransaction(app.db, async (tx) => {
    const own = { messages: tx.selectFrom('messages').select('id').where('partner_id', '=', partnerId) }
    const chats = tx.selectFrom('chats').select('id').where('partner_id', '=', partnerId)
    const deliveries = tx.selectFrom('webhook_deliveries').select('id').where('partner_id', '=', partnerId)
    await tx.deleteFrom('message_parts').where('message_id', 'in', own.messages).execute()
    await tx.deleteFrom('messages').where('partner_id', '=', partnerId).execute()
    await tx.deleteFrom('chat_handles').where('chat_id', 'in', chats).execute()
    await tx.deleteFrom('chats').where('partner_id', '=', partnerId).execute()
    await tx.deleteFrom('idempotency_keys').where('partner_id', '=', partnerId).execute()
    // Who is recording an attempt is waited for; who comes later finds no delivery any more.
    await tx.selectFrom('webhook_deliveries').select('id').where('partner_id', '=', partnerId).forUpdate().execute()
    await tx.deleteFrom('webhook_attempts').where('delivery_id', 'in', deliveries).execute()
    await tx.deleteFrom('webhook_deliveries').where('partner_id', '=', partnerId).execute()
    await tx.deleteFrom('events').where('partner_id', '=', partnerId).execute()
    await tx.deleteFrom('webhook_subscriptions').where('partner_id', '=', partnerId).execute()
    await tx.deleteFrom('attachment_deletions').where('partner_id', '=', partnerId).execute()
    const removed = await tx
      .deleteFrom('attachments')
      .where('partner_id', '=', partnerId)
      .returning('storage_key')
      .execute()
    for (const { storage_key } of removed) {
      if (!storage_key) continue
      await enqueue(tx, { id: app.newId(), kind: 'bytes.delete', payload: { storage_key }, runAt: app.clock.now() })
    }
  })
}
