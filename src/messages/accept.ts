/** Stores a message that passed every check, with all that follows from it, in the transaction that it is given. */
import type { App } from '../app.ts'
import { keepAttachment, useWithLine } from '../attachments/ephemeral.ts'
import { type Chat, touchChat } from '../chats/rows.ts'
import type { Db, NewRow, Service } from '../db/schema.ts'
import { enqueue } from '../jobs/jobs.ts'
import type { Resolved, ResolvedPart } from './resolve-parts.ts'
import { insertMessage, type MessageRow, type PartRow } from './rows.ts'
import type { MessageContent } from './wire.ts'

export type Acceptance = {
  chat: Chat
  resolved: Resolved
  content: Omit<MessageContent, 'parts'>
  traceId: string
  now: number
}

/** From here on the message is the carrier's: a job of this transaction hands it over. */
export async function acceptMessage(
  tx: Db,
  app: Pick<App, 'newId' | 'clock' | 'urls' | 'signingKey' | 'purge'>,
  o: Acceptance,
): Promise<MessageRow> {
  const { chat, content, resolved, now } = o
  const sender = chat.handles.find((handle) => handle.is_me === 1)
  if (!sender) throw new Error(`chat ${chat.id} has no handle of ours`)
  for (const attachment of resolved.fetched) await keepAttachment(tx, attachment)
  const id = app.newId()
  const message = {
    id,
    chat_id: chat.id,
    partner_id: chat.partner_id,
    direction: 'outbound' as const,
    sender_handle_id: sender.id,
    delivery_status: 'pending' as const,
    service: chooseService(content.preferred_service, chat),
    preferred_service: content.preferred_service ?? null,
    effect: content.effect ? JSON.stringify({ type: content.effect.type, name: content.effect.name }) : null,
    reply_to_message_id: content.reply_to?.message_id.toLowerCase() ?? null,
    reply_to_part_index: content.reply_to ? (content.reply_to.part_index ?? 0) : null,
    idempotency_key: content.idempotency_key ?? null,
    trace_id: o.traceId,
    carrier_ref: null,
    created_at: now,
    updated_at: now,
    sent_at: null,
    delivered_at: null,
    read_at: null,
    deleted_at: null,
  }
  const used = await useParts(tx, app, chat, resolved.parts)
  const parts = used.map((part, position) => partRow(part, id, position))
  await insertMessage(
    tx,
    message,
    parts.map(({ attachment: _, ...row }): NewRow<'message_parts'> => row),
  )
  await touchChat(tx, chat.id, now)
  await enqueue(tx, { id: app.newId(), kind: 'message.send', payload: { message_id: id }, runAt: now })
  return { ...message, parts }
}

/** The line of the chat may make the files ephemeral. */
async function useParts(
  tx: Db,
  app: Parameters<typeof acceptMessage>[1],
  chat: Chat,
  parts: readonly ResolvedPart[],
): Promise<ResolvedPart[]> {
  const line = { partnerId: chat.partner_id, phoneNumber: chat.phone_number }
  const files = parts.flatMap((part) => (part.type === 'media' ? [part.attachment] : []))
  const used = new Map((await useWithLine(tx, app, line, files)).map((file) => [file.id, file]))
  return parts.map((part) =>
    part.type === 'media' ? { ...part, attachment: used.get(part.attachment.id) ?? part.attachment } : part,
  )
}

/** iMessage unless asked otherwise; RCS and SMS never become iMessage, and RCS is possible everywhere here. */
export function chooseService(preferred: Service | undefined, chat?: Pick<Chat, 'service'>): Service {
  if (preferred === undefined) return chat?.service ?? 'iMessage'
  return preferred === 'iMessage' ? 'iMessage' : 'RCS'
}

export function partRow(part: ResolvedPart, messageId: string, position: number): PartRow {
  const none = { value: null, text_decorations: null, attachment_id: null, attachment: undefined }
  const at = { message_id: messageId, position }
  switch (part.type) {
    case 'text':
      return { ...none, ...at, type: 'text', value: part.value, text_decorations: part.text_decorations }
    case 'link':
      return { ...none, ...at, type: 'link', value: part.value }
    case 'media':
      return { ...none, ...at, type: 'media', attachment_id: part.attachment.id, attachment: part.attachment }
  }
}
