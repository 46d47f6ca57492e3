/** Chats and who takes part in them. */
import type { ExpressionBuilder } from 'kysely'
import { prepared } from '../db/prepared.ts'
import type { Db, NewRow, Row, Schema } from '../db/schema.ts'
import type { Page, PageKey } from '../http/page.ts'

export type ChatRow = Row<'chats'>
export type HandleRow = Row<'chat_handles'>
/** A chat with its handles, ours first. */
export type Chat = ChatRow & { handles: HandleRow[] }

/** False when there is such a chat already; then nothing is written. Waits for another node that is making it. */
export async function insertChat(tx: Db, chat: NewRow<'chats'>, handles: NewRow<'chat_handles'>[]): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('chats')
    .values(chat)
    .onConflict((oc) => oc.columns(['partner_id', 'phone_number', 'recipients_key']).doNothing())
    .executeTakeFirst()
  if (numInsertedOrUpdatedRows !== 1n) return false
  await tx.insertInto('chat_handles').values(handles).execute()
  return true
}

const own = prepared((db, { id, partnerId }: { id: string; partnerId: string }) =>
  db.selectFrom('chats').selectAll().where('id', '=', id).where('partner_id', '=', partnerId),
)

export async function findChat(db: Db, partnerId: string, id: string): Promise<Chat | undefined> {
  const row = await own.first(db, { id, partnerId })
  return row && (await withHandles(db, [row]))[0]
}

type Recipients = { partnerId: string; phoneNumber: string; recipientsKey: string }

const byRecipients = prepared((db, o: Recipients) =>
  db
    .selectFrom('chats')
    .selectAll()
    .where('partner_id', '=', o.partnerId)
    .where('phone_number', '=', o.phoneNumber)
    .where('recipients_key', '=', o.recipientsKey),
)

/** The chat of this line with exactly these recipients, unless it was changed so that it must not be reused. */
export async function findChatByRecipients(db: Db, o: Recipients): Promise<Chat | undefined> {
  const { partnerId, phoneNumber, recipientsKey } = o
  const row = await byRecipients.first(db, { partnerId, phoneNumber, recipientsKey })
  return row && (await withHandles(db, [row]))[0]
}

export type ChatFilter = { partnerId: string; from: string | undefined; to: readonly string[] }

/** Newest activity first; one more than the page has. `to`: each of these handles takes part. */
export async function listChats(db: Db, filter: ChatFilter, page: Page): Promise<Chat[]> {
  let query = db.selectFrom('chats').selectAll().where('partner_id', '=', filter.partnerId)
  if (filter.from !== undefined) query = query.where('phone_number', '=', filter.from)
  for (const handle of filter.to) {
    query = query.where('id', 'in', (eb) =>
      eb.selectFrom('chat_handles').select('chat_id').where(spelled(handle)).where('is_me', '=', 0),
    )
  }
  const { after } = page
  if (after) query = query.where((eb) => eb(eb.refTuple('updated_at', 'id'), '<', eb.tuple(after.at, after.id)))
  const rows = await query
    .orderBy('updated_at', 'desc')
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute()
  return await withHandles(db, rows)
}

/** Numbers have one spelling and an index; e-mail addresses are kept as they were written, and their case says nothing. */
const spelled = (handle: string) => (eb: ExpressionBuilder<Schema, 'chat_handles'>) =>
  handle.includes('@') ? eb(eb.fn('lower', ['handle']), '=', handle.toLowerCase()) : eb('handle', '=', handle)

export const chatPageKey = (chat: ChatRow): PageKey => ({ at: chat.updated_at, id: chat.id })

export async function setHealth(
  db: Db,
  id: string,
  health: Pick<ChatRow, 'health_status' | 'health_updated_at'>,
): Promise<void> {
  await db.updateTable('chats').set(health).where('id', '=', id).execute()
}

const touch = prepared((db, { id, at }: { id: string; at: number }) =>
  db.updateTable('chats').set({ updated_at: at }).where('id', '=', id).where('updated_at', '<', at),
)

/** Says that something happened in the chat. */
export async function touchChat(db: Db, id: string, at: number): Promise<void> {
  await touch.write(db, { id, at })
}

const handlesOf = prepared((db, { ids }: { ids: readonly string[] }) =>
  db.selectFrom('chat_handles').selectAll().where('chat_id', 'in', ids).orderBy('chat_id').orderBy('position'),
)

/** Two queries for any number of chats. */
export async function withHandles(db: Db, chats: ChatRow[]): Promise<Chat[]> {
  if (chats.length === 0) return []
  const ids = chats.map((chat) => chat.id)
  const handles = await handlesOf.all(db, { ids })
  const byChat = Map.groupBy(handles, (handle) => handle.chat_id)
  return chats.map((chat) => ({ ...chat, handles: byChat.get(chat.id) ?? [] }))
}
