/** Tells the webhooks what became of a message, in the transaction that made it so. */
import type { App } from '../app.ts'
import { linkTo } from '../attachments/links.ts'
import type { Chat } from '../chats/rows.ts'
import type { Db } from '../db/schema.ts'
import { emit } from '../webhooks/emit.ts'
import type { EventType } from '../webhooks/events.ts'
import {
  chatCreatedData,
  type DeliveryFailure,
  failedData,
  type MessageEventType,
  messageData,
  messageData2025,
} from './payloads.ts'
import type { MessageRow } from './rows.ts'

type Teller = Pick<App, 'newId' | 'clock' | 'urls' | 'sandbox' | 'signingKey'>
type About = { message: MessageRow; chat: Chat }

export async function announceMessage(tx: Db, app: Teller, type: MessageEventType, about: About): Promise<void> {
  const { message, chat } = about
  const link = linkTo(app)
  await emit(tx, app, {
    ...common(type, chat, message.trace_id),
    messageId: message.id,
    data: messageData(type, message, chat, link),
    data2025: messageData2025(type, message, chat, link),
  })
}

export async function announceFailure(tx: Db, app: Teller, about: About, failure: DeliveryFailure): Promise<void> {
  const { message, chat } = about
  const data = failedData(message, chat, failure)
  await emit(tx, app, { ...common('message.failed', chat, message.trace_id), messageId: message.id, data })
}

export async function announceChat(tx: Db, app: Teller, chat: Chat, traceId: string): Promise<void> {
  await emit(tx, app, { ...common('chat.created', chat, traceId), messageId: null, data: chatCreatedData(chat) })
}

function common(type: EventType, chat: Chat, traceId: string) {
  return { type, partnerId: chat.partner_id, phoneNumber: chat.phone_number, chatId: chat.id, traceId }
}
