/** Reading messages back, and forgetting them. */
import type { App } from '../app.ts'
import { linkTo } from '../attachments/links.ts'
import { getChat } from '../chats/open.ts'
import { findChat } from '../chats/rows.ts'
import { inTransaction } from '../db/transaction.ts'
import { Failure } from '../failure.ts'
import { type Page, paginate } from '../http/page.ts'
import { findMessage, listMessages, messagePageKey, removeMessage } from './rows.ts'
import { type MessageJson, messageJson } from './wire.ts'

/** Failure message_not_found. */
export async function getMessage(app: App, partnerId: string, id: string): Promise<MessageJson> {
  const message = await findMessage(app.db, partnerId, id.toLowerCase())
  const chat = message && (await findChat(app.db, partnerId, message.chat_id))
  if (!chat) throw new Failure('message_not_found')
  return messageJson(message, chat, linkTo(app))
}

/** Newest first. Failure chat_not_found. */
export async function listChatMessages(app: App, o: { partnerId: string; chatId: string; page: Page }) {
  const chat = await getChat(app, o.partnerId, o.chatId)
  const found = await listMessages(app.db, chat.id, o.page)
  const { rows, next_cursor } = paginate(found, o.page.limit, messagePageKey)
  const link = linkTo(app)
  return { messages: rows.map((message) => messageJson(message, chat, link)), next_cursor }
}

/** Our record only: the recipient keeps the message, and its attachments stay. Failure message_not_found. */
export async function deleteMessage(app: App, partnerId: string, id: string): Promise<void> {
  const found = await inTransaction(app.db, (tx) => removeMessage(tx, partnerId, id.toLowerCase(), app.clock.now()))
  if (!found) throw new Failure('message_not_found')
}
