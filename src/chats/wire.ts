/** Chats and handles as they go over the wire (contract 4.1). */
import { type Static, Type } from 'typebox'
import { iso, isoOrNull, Nullable, Ref, ServiceName, Time, Uuid } from '../http/schemas.ts'
import type { Chat as ChatWithHandles, HandleRow } from './rows.ts'

export const ChatHandle = Type.Object(
  {
    id: Uuid,
    handle: Type.String({ description: 'E.164 number or e-mail address' }),
    service: ServiceName,
    status: Type.Union([Type.Literal('active'), Type.Literal('left'), Type.Literal('removed')]),
    joined_at: Time,
    left_at: Nullable(Time),
    is_me: Type.Boolean(),
  },
  { $id: 'ChatHandle' },
)
export type ChatHandleJson = Static<typeof ChatHandle>

export const HealthStatus = Type.Object({
  status: Type.Enum(['HEALTHY', 'AT_RISK', 'CRITICAL', 'OPTED_OUT']),
  doc_url: Type.String(),
  updated_at: Time,
})

export const Chat = Type.Object(
  {
    id: Uuid,
    display_name: Nullable(Type.String()),
    service: ServiceName,
    is_group: Type.Boolean(),
    is_archived: Type.Boolean({ description: 'Always false' }),
    group_chat_icon: Nullable(Type.String()),
    handles: Type.Array(Ref<ChatHandleJson>('ChatHandle')),
    health_status: HealthStatus,
    created_at: Time,
    updated_at: Time,
  },
  { $id: 'Chat' },
)

export const Chats = Type.Object({
  chats: Type.Array(Ref<Static<typeof Chat>>('Chat')),
  next_cursor: Nullable(Type.String()),
})

export const chatSchemas = [ChatHandle, Chat]

export function handleJson(row: HandleRow): ChatHandleJson {
  return {
    id: row.id,
    handle: row.handle,
    service: row.service,
    status: row.status,
    joined_at: iso(row.joined_at),
    left_at: isoOrNull(row.left_at),
    is_me: row.is_me === 1,
  }
}

export function healthJson(chat: ChatWithHandles): Static<typeof HealthStatus> {
  const page = chat.health_status.toLowerCase().replace('_', '-')
  return {
    status: chat.health_status,
    doc_url: `https://docs.linqapp.com/guides/chats/chat-health#${page}`,
    updated_at: iso(chat.health_updated_at),
  }
}

export function chatJson(chat: ChatWithHandles): Static<typeof Chat> {
  return {
    id: chat.id,
    display_name: displayName(chat),
    service: chat.service,
    is_group: chat.is_group === 1,
    is_archived: false,
    group_chat_icon: null,
    handles: chat.handles.map(handleJson),
    health_status: healthJson(chat),
    created_at: iso(chat.created_at),
    updated_at: iso(chat.updated_at),
  }
}

export function displayName(chat: ChatWithHandles): string {
  return chat.display_name ?? recipientsOf(chat).join(', ')
}

/** The others, in the order they were named. */
export function recipientsOf(chat: ChatWithHandles): string[] {
  return chat.handles.filter((handle) => handle.is_me === 0).map((handle) => handle.handle)
}
