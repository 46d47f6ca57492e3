/**
 * Pure: messages and chats as webhooks tell of them, in both payload versions (contract 5.6 and 5.8). Key order and explicit
 * nulls are those of the contract's examples.
 */
import type { LinkTo } from '../attachments/links.ts'
import type { Chat, HandleRow } from '../chats/rows.ts'
import { chatJson, handleJson, healthJson } from '../chats/wire.ts'
import { iso, isoOrNull } from '../http/schemas.ts'
import type { MessageRow, PartRow } from './rows.ts'
import { contextJson, partJson, senderJson } from './wire.ts'

export type MessageEventType = 'message.sent' | 'message.received' | 'message.delivered' | 'message.read'

/** Version 2026-02-03. Times that the event's type is ahead of are null, whatever the row says by now. */
export function messageData(type: MessageEventType, message: MessageRow, chat: Chat, link: LinkTo) {
  return {
    id: message.id,
    direction: message.direction,
    chat: {
      id: chat.id,
      is_group: chat.is_group === 1,
      owner_handle: handleJson(ownerOf(chat)),
      health_status: healthJson(chat),
    },
    sender_handle: senderJson(message, chat),
    parts: message.parts.map((part) => partData(part, link)),
    ...timesAt(type, message),
    ...contextJson(message),
    idempotency_key: message.idempotency_key,
    preferred_service: message.preferred_service,
    service: message.service,
  }
}

/** Version 2025-01-01. */
export function messageData2025(type: MessageEventType, message: MessageRow, chat: Chat, link: LinkTo) {
  const inbound = message.direction === 'inbound'
  const sender = senderJson(message, chat)
  const times = timesAt(type, message)
  const owner = ownerOf(chat)
  return {
    chat_id: chat.id,
    is_group: chat.is_group === 1,
    from: sender.handle,
    from_handle: sender,
    is_from_me: !inbound,
    recipient_handle: inbound ? handleJson(owner) : null,
    recipient_phone: inbound ? owner.handle : null,
    received_at: inbound ? iso(message.created_at) : null,
    idempotency_key: message.idempotency_key,
    service: message.service,
    preferred_service: message.preferred_service,
    ...(type === 'message.delivered' ? { message_id: message.id, delivered_at: times.delivered_at } : {}),
    ...(type === 'message.read' ? { message_id: message.id, read_at: times.read_at } : {}),
    message: {
      id: message.id,
      parts: message.parts.map((part) => partData(part, link)),
      ...contextJson(message),
      is_delivered: times.delivered_at !== null,
      is_read: times.read_at !== null,
      ...times,
      created_at: iso(message.created_at),
      updated_at: iso(message.updated_at),
    },
  }
}

export type DeliveryFailure = { code: 3007 | 4001 | 4005; reason: string; failedAt: number }

/** The SDK's flat fields, and `id` and `chat` besides, which the vendor's chat adapter looks for. */
export function failedData(message: Pick<MessageRow, 'id'>, chat: Chat, failure: DeliveryFailure) {
  return {
    chat_id: chat.id,
    message_id: message.id,
    code: failure.code,
    reason: failure.reason,
    failed_at: iso(failure.failedAt),
    id: message.id,
    chat: { id: chat.id, is_group: chat.is_group === 1 },
  }
}

export function chatCreatedData(chat: Chat) {
  const { is_archived: _, group_chat_icon: __, ...data } = chatJson(chat)
  return data
}

function ownerOf(chat: Chat): HandleRow {
  const owner = chat.handles.find((handle) => handle.is_me === 1)
  if (!owner) throw new Error(`chat ${chat.id} has no handle of ours`)
  return owner
}

/** Without reactions; decorations only where there are some. */
function partData(part: PartRow, link: LinkTo) {
  const { reactions: _, ...json } = partJson(part, link)
  if (json.type !== 'text' || json.text_decorations !== null) return json
  return { type: json.type, value: json.value }
}

function timesAt(type: MessageEventType, message: MessageRow) {
  const delivered = type === 'message.delivered' || type === 'message.read'
  return {
    sent_at: iso(message.sent_at ?? message.created_at),
    delivered_at: delivered ? isoOrNull(message.delivered_at) : null,
    read_at: type === 'message.read' ? isoOrNull(message.read_at) : null,
  }
}
