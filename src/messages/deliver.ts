/** Hands accepted messages to the carrier, and takes down what the carrier says of them. */
import type { App } from '../app.ts'
import { downloadUrl } from '../attachments/wire.ts'
import type { CarrierEvent, Outbound, OutboundPart } from '../carriers/carrier.ts'
import { findChat } from '../chats/rows.ts'
import { recipientsOf } from '../chats/wire.ts'
import type { DeliveryStatus } from '../db/schema.ts'
import { findByCarrierRef, findOutbound, type MessageRow, moveMessage, setCarrierRef } from './rows.ts'

const ATTEMPTS = 6

/**
 * The job message.send. May run again after a crash, with the same message. A message that was deleted, or that has gone
 * further already, is left alone; one that the carrier keeps refusing becomes failed.
 */
export async function deliverMessage(app: App, id: string, attempt: number, signal: AbortSignal): Promise<void> {
  const message = await findOutbound(app.db, id)
  if (!message || !['pending', 'queued'].includes(message.delivery_status)) return
  const outbound = await toOutbound(app, message)
  await moveMessage(app.db, { id }, ['pending'], { delivery_status: 'queued' })
  try {
    const { carrierRef } = await app.carrier.send(outbound, signal)
    await setCarrierRef(app.db, id, carrierRef)
  } catch (error) {
    if (attempt < ATTEMPTS) throw error
    app.log.error({ err: error, message_id: id }, 'message given up')
    await moveMessage(app.db, { id }, ['pending', 'queued'], { delivery_status: 'failed' })
  }
}

/** From which states each report moves a message on. A message can still be delivered after it was called failed. */
const MOVES: Record<CarrierEvent['type'], readonly DeliveryStatus[]> = {
  sent: ['pending', 'queued'],
  delivered: ['pending', 'queued', 'sent', 'failed'],
  read: ['pending', 'queued', 'sent', 'delivered', 'failed'],
  failed: ['pending', 'queued', 'sent'],
}

/** Safe to repeat: what has happened already changes nothing. An unknown reference is an error, so that it is tried again. */
export async function reportDelivery(app: Pick<App, 'db'>, event: CarrierEvent): Promise<void> {
  await app.db.transaction().execute(async (tx) => {
    const message = await findByCarrierRef(tx, event.carrierRef)
    if (!message) throw new Error(`no message has the carrier reference ${event.carrierRef}`)
    const times = {
      sent: { sent_at: message.sent_at ?? event.at },
      delivered: { sent_at: message.sent_at ?? event.at, delivered_at: event.at },
      read: { sent_at: message.sent_at ?? event.at, delivered_at: message.delivered_at ?? event.at, read_at: event.at },
      failed: {},
    }[event.type]
    await moveMessage(tx, { id: message.id }, MOVES[event.type], { delivery_status: event.type, ...times })
  })
}

async function toOutbound(app: App, message: MessageRow): Promise<Outbound> {
  const chat = await findChat(app.db, message.partner_id, message.chat_id)
  if (!chat) throw new Error(`message ${message.id} has no chat`)
  const parts = message.parts.flatMap((part): OutboundPart[] => {
    if (part.type === 'text') return [{ type: 'text', text: part.value ?? '' }]
    if (part.type === 'link') return [{ type: 'link', url: part.value ?? '' }]
    if (!part.attachment) return []
    const { filename, content_type, size_bytes } = part.attachment
    return [{ type: 'media', url: downloadUrl(part.attachment, app.urls.cdn), content_type, filename, size_bytes }]
  })
  return { id: message.id, from: chat.phone_number, to: recipientsOf(chat), parts }
}
