/** Messages as they go over the wire: what callers send (contract 3, 4.1) and what they get (4.2 to 4.5, 4.8). */
import { type Static, type TSchema, Type } from 'typebox'
import type { LinkTo } from '../attachments/links.ts'
import { attachmentSchemas } from '../attachments/wire.ts'
import type { Chat } from '../chats/rows.ts'
import { type ChatHandleJson, displayName, HealthStatus, handleJson, healthJson, recipientsOf } from '../chats/wire.ts'
import { iso, isoOrNull, Nullable, Ref, ServiceName, Time, Uuid } from '../http/schemas.ts'
import type { MessageRow, PartRow } from './rows.ts'

const Decoration = Type.Object({
  range: Type.Array(Type.Integer(), {
    minItems: 2,
    maxItems: 2,
    description: '[start, end) in UTF-16 units',
  }),
  style: Type.Optional(Type.String({ examples: ['bold'] })),
  animation: Type.Optional(Type.String({ examples: ['shake'] })),
})

const TextPartIn = Type.Object({
  type: Type.Literal('text'),
  value: Type.String({ minLength: 1, maxLength: 10_000 }),
  text_decorations: Type.Optional(Nullable(Type.Array(Decoration, { maxItems: 1000 }))),
})
const MediaPartIn = Type.Object(
  {
    type: Type.Literal('media'),
    url: Type.Optional(Type.String({ description: 'Public https URL of at most 10 MB' })),
    attachment_id: Type.Optional(Type.String({ description: 'Of a finished pre-upload' })),
  },
  { description: 'Exactly one of url and attachment_id; the type is inferred from the file' },
)
const LinkPartIn = Type.Object({ type: Type.Literal('link'), value: Type.String({ minLength: 1, maxLength: 2048 }) })
const AppPartIn = Type.Object({ type: Type.Literal('imessage_app') }, { description: 'Not available here: 403, 2011' })

export type PartIn =
  | Static<typeof TextPartIn>
  | Static<typeof MediaPartIn>
  | Static<typeof LinkPartIn>
  | Static<typeof AppPartIn>

/** A union that is told apart by `type`, so that a refusal names the field and not "anyOf". */
const byType = <T>(...oneOf: TSchema[]) =>
  Type.Unsafe<T>({ type: 'object', discriminator: { propertyName: 'type' }, required: ['type'], oneOf })

export const MessageContent = Type.Object({
  parts: Type.Array(byType<PartIn>(TextPartIn, MediaPartIn, LinkPartIn, AppPartIn), { minItems: 1, maxItems: 100 }),
  effect: Type.Optional(
    Type.Object({
      type: Type.String({ description: 'screen or bubble' }),
      name: Type.String({ examples: ['confetti'] }),
    }),
  ),
  reply_to: Type.Optional(
    Type.Object({ message_id: Uuid, part_index: Type.Optional(Type.Integer({ minimum: 0, maximum: 99 })) }),
  ),
  idempotency_key: Type.Optional(Type.String({ minLength: 1, maxLength: 255 })),
  preferred_service: Type.Optional(Type.Enum(['iMessage', 'SMS', 'RCS'])),
})
export type MessageContent = Static<typeof MessageContent>

export const CreateChat = Type.Object({
  from: Type.String({ description: 'A line of yours, E.164' }),
  to: Type.Array(Type.String({ description: 'E.164 number or e-mail address' }), { minItems: 1, maxItems: 31 }),
  message: MessageContent,
})
export const SendMessage = Type.Object({ message: MessageContent })
export const SendVoiceMemo = Type.Object(
  { voice_memo_url: Type.Optional(Type.String()), attachment_id: Type.Optional(Type.String()) },
  { description: 'Exactly one of the two' },
)

const Reactions = Type.Array(Type.Unknown(), { description: 'Empty when there are none' })
const MediaPart = Type.Object({
  type: Type.Literal('media'),
  id: Type.String({ description: 'The attachment; empty once that is deleted' }),
  url: Type.String({ description: 'On the CDN; permanent, but for the ephemeral tier' }),
  filename: Type.String(),
  mime_type: Type.String(),
  size_bytes: Type.Integer(),
  reactions: Reactions,
})
const Part = Type.Union([
  Type.Object({
    type: Type.Literal('text'),
    value: Type.String(),
    text_decorations: Nullable(Type.Array(Decoration)),
    reactions: Reactions,
  }),
  MediaPart,
  Type.Object({ type: Type.Literal('link'), value: Type.String(), reactions: Reactions }),
])
export type PartJson = Static<typeof Part>
export type MediaPartJson = Static<typeof MediaPart>

const Effect = Type.Object({ type: Type.String(), name: Type.String() })
const ReplyTo = Type.Object({ message_id: Uuid, part_index: Type.Integer() })
const Handle = Ref<ChatHandleJson>('ChatHandle')
const Status = Type.Enum(['pending', 'queued', 'sent', 'delivered', 'received', 'read', 'failed'])

const shared = {
  id: Uuid,
  created_at: Time,
  delivery_status: Status,
  is_read: Type.Boolean(),
  parts: Type.Array(Part),
  sent_at: Nullable(Time),
  delivered_at: Nullable(Time),
  effect: Nullable(Effect),
  reply_to: Nullable(ReplyTo),
  from_handle: Handle,
  preferred_service: Nullable(ServiceName),
  service: ServiceName,
}

export const SentMessage = Type.Object(shared, { $id: 'SentMessage' })
export const Message = Type.Object(
  {
    ...shared,
    chat_id: Uuid,
    updated_at: Time,
    is_from_me: Type.Boolean(),
    is_delivered: Type.Boolean(),
    read_at: Nullable(Time),
    from: Type.String(),
  },
  { $id: 'Message' },
)
export type SentMessageJson = Static<typeof SentMessage>
export type MessageJson = Static<typeof Message>

export const CreatedChat = Type.Object({
  chat: Type.Object({
    id: Uuid,
    display_name: Nullable(Type.String()),
    service: ServiceName,
    is_group: Type.Boolean(),
    handles: Type.Array(Handle),
    health_status: HealthStatus,
    message: Ref<SentMessageJson>('SentMessage'),
  }),
})
export const AcceptedMessage = Type.Object({ chat_id: Uuid, message: Ref<SentMessageJson>('SentMessage') })
export const Messages = Type.Object({
  messages: Type.Array(Ref<MessageJson>('Message')),
  next_cursor: Nullable(Type.String()),
})
export const AcceptedVoiceMemo = Type.Object({
  voice_memo: Type.Object({
    id: Uuid,
    from: Type.String(),
    to: Type.Array(Type.String()),
    status: Status,
    service: ServiceName,
    created_at: Time,
    chat: Type.Object({
      id: Uuid,
      handles: Type.Array(Handle),
      is_group: Type.Boolean(),
      is_active: Type.Boolean(),
      service: ServiceName,
    }),
    voice_memo: Type.Object({
      id: Uuid,
      filename: Type.String(),
      mime_type: Type.String(),
      size_bytes: Type.Integer(),
      url: Type.String(),
      duration_ms: Nullable(Type.Integer()),
    }),
  }),
})

export const messageSchemas = [SentMessage, Message, ...attachmentSchemas]

export function partJson(part: PartRow, link: LinkTo): PartJson {
  switch (part.type) {
    case 'text': {
      const decorations = part.text_decorations === null ? null : JSON.parse(part.text_decorations)
      return { type: 'text', value: part.value ?? '', text_decorations: decorations, reactions: [] }
    }
    case 'link':
      return { type: 'link', value: part.value ?? '', reactions: [] }
    case 'media':
      return mediaPartJson(part, link)
  }
}

/** A deleted or vanished attachment leaves strings behind, not nulls: clients look into mime_type without asking (contract 1.9). */
export function mediaPartJson({ attachment }: PartRow, link: LinkTo): MediaPartJson {
  const gone = { id: '', url: '', filename: '', mime_type: 'application/octet-stream', size_bytes: 0 }
  const url = attachment && link(attachment)
  const file = attachment &&
    url !== undefined && {
      id: attachment.id,
      url,
      filename: attachment.filename,
      mime_type: attachment.content_type,
      size_bytes: attachment.size_bytes,
    }
  return { type: 'media', ...(file || gone), reactions: [] }
}

/** Keys in the order of the contract's examples, here and below. */
export function sentMessageJson(message: MessageRow, chat: Chat, link: LinkTo): SentMessageJson {
  return {
    id: message.id,
    created_at: iso(message.created_at),
    delivery_status: message.delivery_status,
    is_read: message.delivery_status === 'read',
    sent_at: isoOrNull(message.sent_at),
    delivered_at: isoOrNull(message.delivered_at),
    parts: message.parts.map((part) => partJson(part, link)),
    ...contextJson(message),
    from_handle: senderJson(message, chat),
    ...servicesJson(message),
  }
}

export function messageJson(message: MessageRow, chat: Chat, link: LinkTo): MessageJson {
  const sender = senderJson(message, chat)
  return {
    id: message.id,
    chat_id: message.chat_id,
    created_at: iso(message.created_at),
    updated_at: iso(message.updated_at),
    delivery_status: message.delivery_status,
    is_from_me: message.direction === 'outbound',
    is_delivered: ['delivered', 'read'].includes(message.delivery_status),
    is_read: message.delivery_status === 'read',
    sent_at: isoOrNull(message.sent_at),
    delivered_at: isoOrNull(message.delivered_at),
    read_at: isoOrNull(message.read_at),
    from: sender.handle,
    from_handle: sender,
    parts: message.parts.map((part) => partJson(part, link)),
    ...contextJson(message),
    ...servicesJson(message),
  }
}

export function senderJson(message: MessageRow, chat: Chat): ChatHandleJson {
  const sender = chat.handles.find((handle) => handle.id === message.sender_handle_id)
  if (!sender) throw new Error(`message ${message.id} has a sender that is not in its chat`)
  return handleJson(sender)
}

/** What a message does besides saying something. */
export function contextJson(message: MessageRow) {
  return {
    effect: message.effect === null ? null : JSON.parse(message.effect),
    reply_to: message.reply_to_message_id
      ? { message_id: message.reply_to_message_id, part_index: message.reply_to_part_index ?? 0 }
      : null,
  }
}

const servicesJson = ({ preferred_service, service }: MessageRow) => ({ preferred_service, service })

export function createdChatJson(chat: Chat, message: MessageRow, link: LinkTo): Static<typeof CreatedChat> {
  return {
    chat: {
      id: chat.id,
      display_name: displayName(chat),
      service: chat.service,
      is_group: chat.is_group === 1,
      handles: chat.handles.map(handleJson),
      health_status: healthJson(chat),
      message: sentMessageJson(message, chat, link),
    },
  }
}

export function voiceMemoJson(chat: Chat, message: MessageRow, link: LinkTo): Static<typeof AcceptedVoiceMemo> {
  const [part] = message.parts
  if (!part) throw new Error(`voice memo ${message.id} has no part`)
  const { type: _, reactions: __, ...file } = mediaPartJson(part, link)
  return {
    voice_memo: {
      id: message.id,
      from: chat.phone_number,
      to: recipientsOf(chat),
      status: 'queued',
      service: message.service,
      created_at: iso(message.created_at),
      chat: {
        id: chat.id,
        handles: chat.handles.map(handleJson),
        is_group: chat.is_group === 1,
        is_active: chat.left_at === null,
        service: chat.service,
      },
      voice_memo: { ...file, duration_ms: null },
    },
  }
}
