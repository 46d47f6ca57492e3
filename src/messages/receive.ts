/** A message that came in for one of our lines: found or made a chat for, stored, and told to the webhooks. */
import type { App } from '../app.ts'
import { keepAttachment, useWithLine } from '../attachments/ephemeral.ts'
import type { CompleteAttachment } from '../attachments/get.ts'
import { discard } from '../attachments/keep.ts'
import { dedupe, findOrCreateChat, isHandle } from '../chats/open.ts'
import { setHealth, touchChat } from '../chats/rows.ts'
import type { Service } from '../db/schema.ts'
import { CommitUnknown, inTransaction } from '../db/transaction.ts'
import { Failure } from '../failure.ts'
import { findPhoneNumber, lockLine } from '../partners/rows.ts'
import { partRow } from './accept.ts'
import { announceChat, announceMessage } from './announce.ts'
import { findByCarrierRef, insertMessage } from './rows.ts'

export type Inbound = {
  /** Who sent it. */
  from: string
  /** Our line. */
  to: string
  /** The other members, when it was sent to a group. */
  others?: readonly string[]
  text: string | undefined
  /** Stored already, rows not yet inserted; taken back when the message is not accepted. */
  files: readonly CompleteAttachment[]
  service: Service
  /** When it was sent, in ms since 1970. */
  sentAt: number
  /** What the carrier calls it: the same message again changes nothing. */
  carrierRef: string | null
  traceId: string
}

export type ReceivedMessage = { chatId: string; messageId: string }

/** The partner of one of our lines; Failure phone_number_forbidden for any other number. */
export async function ownerOfLine(app: Pick<App, 'db'>, line: string): Promise<string> {
  const found = await findPhoneNumber(app.db, line)
  if (!found) throw new Failure('phone_number_forbidden', `${line} is not a line of ours`)
  return found.partner_id
}

/** Failures: bad_phone_number, bad_message when it is empty, phone_number_forbidden. */
export async function receiveMessage(app: App, inbound: Inbound): Promise<ReceivedMessage> {
  try {
    const { isNew, ...received } = await store(app, inbound)
    if (!isNew) await discard(app, inbound.files)
    return received
  } catch (error) {
    if (!(error instanceof CommitUnknown)) await discard(app, inbound.files)
    throw error
  }
}

async function store(app: App, inbound: Inbound): Promise<ReceivedMessage & { isNew: boolean }> {
  const others = [inbound.from, ...(inbound.others ?? [])].filter((handle) => handle !== inbound.to)
  const wrong = others.find((handle) => !isHandle(handle))
  if (wrong !== undefined) throw new Failure('bad_phone_number', `from: "${wrong.slice(0, 100)}" is not a phone number`)
  if (others.length === 0) throw new Failure('bad_parameter', 'from must not be the line itself')
  if (!inbound.text && inbound.files.length === 0) throw new Failure('bad_message', 'a message needs text or media')
  const partnerId = await ownerOfLine(app, inbound.to)

  return await inTransaction(app.db, async (tx) => {
    // The carrier may say the same to two nodes at once: the second waits here until the first has stored it.
    if (inbound.carrierRef !== null) await lockLine(tx, inbound.to)
    const known = inbound.carrierRef === null ? undefined : await findByCarrierRef(tx, 'inbound', inbound.carrierRef)
    if (known) return { chatId: known.chat_id, messageId: known.id, isNew: false }
    const now = app.clock.now()
    const who = { partnerId, phoneNumber: inbound.to, recipients: dedupe(others) }
    const { chat, isNew } = await findOrCreateChat(tx, app, who, { service: inbound.service, now })
    if (isNew) await announceChat(tx, app, chat, inbound.traceId)
    const health = healthAfter(inbound.text)
    if (health && health !== chat.health_status) {
      Object.assign(chat, { health_status: health, health_updated_at: now })
      await setHealth(tx, chat.id, { health_status: health, health_updated_at: now })
    }
    const sender = chat.handles.find((handle) => handle.handle.toLowerCase() === inbound.from.toLowerCase())
    if (!sender) throw new Error(`chat ${chat.id} has no handle ${inbound.from}`)
    for (const file of inbound.files) await keepAttachment(tx, file)
    const files = await useWithLine(tx, app, who, inbound.files)
    const id = app.newId()
    const row = {
      id,
      chat_id: chat.id,
      partner_id: partnerId,
      direction: 'inbound' as const,
      sender_handle_id: sender.id,
      delivery_status: 'received' as const,
      service: inbound.service,
      preferred_service: null,
      effect: null,
      reply_to_message_id: null,
      reply_to_part_index: null,
      idempotency_key: null,
      trace_id: inbound.traceId,
      carrier_ref: inbound.carrierRef,
      created_at: now,
      updated_at: now,
      sent_at: inbound.sentAt,
      delivered_at: null,
      read_at: null,
      deleted_at: null,
    }
    const parts = [
      ...(inbound.text ? [{ type: 'text' as const, value: inbound.text, text_decorations: null }] : []),
      ...files.map((attachment) => ({ type: 'media' as const, attachment })),
    ].map((part, position) => partRow(part, id, position))
    await insertMessage(
      tx,
      row,
      parts.map(({ attachment: _, ...part }) => part),
    )
    await touchChat(tx, chat.id, now)
    await announceMessage(tx, app, 'message.received', { message: { ...row, parts }, chat })
    return { chatId: chat.id, messageId: id, isNew: true }
  })
}

const OPT_OUT = ['STOP', 'UNSUBSCRIBE', 'OPTOUT', 'CANCEL', 'END', 'QUIT']
const OPT_IN = ['START', 'OPTIN', 'UNSTOP']

/** A message that is exactly one of these words changes how the chat stands (contract 4.1); phones write them as "Stop" too. */
function healthAfter(text: string | undefined): 'OPTED_OUT' | 'HEALTHY' | undefined {
  const word = text?.trim().toUpperCase() ?? ''
  if (OPT_OUT.includes(word)) return 'OPTED_OUT'
  return OPT_IN.includes(word) ? 'HEALTHY' : undefined
}
