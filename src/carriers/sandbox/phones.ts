/** What the pretend phones show. */
import { sql } from 'kysely'
import type { App } from '../../app.ts'
import { linkTo } from '../../attachments/links.ts'
import { withHandles } from '../../chats/rows.ts'
import type { Db } from '../../db/schema.ts'
import { iso } from '../../http/schemas.ts'
import { withParts } from '../../messages/rows.ts'
import { type MessageJson, messageJson } from '../../messages/wire.ts'

const MOST_PHONES = 1_000
const MOST_MESSAGES = 200

export async function listPhones(db: Db, partnerId: string) {
  const rows = await db
    .selectFrom('chat_handles as h')
    .innerJoin('chats as c', 'c.id', 'h.chat_id')
    .innerJoin('messages as m', 'm.chat_id', 'c.id')
    .select(['h.handle', (eb) => eb.fn.countAll<number>().as('messages'), (eb) => eb.fn.max('m.created_at').as('last')])
    .where('c.partner_id', '=', partnerId)
    .where('h.is_me', '=', 0)
    .groupBy('h.handle')
    .orderBy('last', 'desc')
    .limit(MOST_PHONES)
    .execute()
  return rows.map(({ handle, messages, last }) => ({
    handle,
    messages: Number(messages),
    last_message_at: iso(Number(last)),
  }))
}

/** The last messages of the chats this handle is in: what others sent once it has arrived, and what it sent itself. */
export async function phoneMessages(app: App, partnerId: string, handle: string): Promise<MessageJson[]> {
  const rows = await app.db
    .selectFrom('messages')
    .selectAll()
    .where('partner_id', '=', partnerId)
    .where('chat_id', 'in', (eb) =>
      eb
        .selectFrom('chat_handles')
        .select('chat_id')
        .where(sql`lower(handle)`, '=', handle.toLowerCase())
        .where('is_me', '=', 0),
    )
    .where('delivery_status', 'in', ['sent', 'delivered', 'read', 'received'])
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(MOST_MESSAGES)
    .execute()
  const messages = await withParts(app.db, rows.reverse())
  const ids = [...new Set(messages.map((message) => message.chat_id))]
  if (ids.length === 0) return []
  const chats = await withHandles(app.db, await app.db.selectFrom('chats').selectAll().where('id', 'in', ids).execute())
  const byId = new Map(chats.map((chat) => [chat.id, chat]))
  const link = linkTo(app)
  return messages.flatMap((message) => {
    const chat = byId.get(message.chat_id)
    return chat ? [messageJson(message, chat, link)] : []
  })
}
