/** Hands accepted messages to the carrier, and takes down what the carrier says of them. */
import type { App } from '../app.ts'
import { linkTo } from '../attachments/links.ts'
import {
  type CarrierEvent,
  CarrierRefused,
  type FailureCode,
  type Outbound,
  type OutboundPart,
} from '../carriers/carrier.ts'
import { findChat } from '../chats/rows.ts'
import { recipientsOf } from '../chats/wire.ts'
import type { Db, DeliveryStatus } from '../db/schema.ts'
import { inTransaction } from '../db/transaction.ts'
import { Failure } from '../failure.ts'
import { announceFailure, announceMessage } from './announce.ts'
import {
  dropDeleted,
  findByCarrierRef,
  findOutbound,
  lockOutbound,
  type MessageRow,
  moveMessage,
  outboundExists,
  setCarrierRef,
} from './rows.ts'

/** With the worker's pauses that is about eight and a half minutes: a carrier may be restarted meanwhile. */
const ATTEMPTS = 11

/**
 * The job message.send. May run again after a crash, with the same message. A message that was deleted, or that has gone
 * further already, is left alone. One that the carrier refuses, or cannot be handed over for too long, becomes failed.
 */
export async function deliverMessage(app: App, id: string, attempt: number, signal: AbortSignal): Promise<void> {
  const message = await findOutbound(app.db, id)
  if (!message || !['pending', 'queued'].includes(message.delivery_status)) return
  app.tracer.join(message.trace_id)
  const outbound = await toOutbound(app, message)
  if (outbound.parts.length === 0)
    return await fail(app, id, { code: 4001, reason: 'All of its attachments were deleted' })
  await moveMessage(app.db, id, ['pending'], { delivery_status: 'queued' })
  try {
    const { carrierRef } = await app.carrier.send(outbound, signal)
    const isDeleted = await setCarrierRef(app.db, id, carrierRef)
    if (isDeleted) await inTransaction(app.db, (tx) => dropDeleted(tx, id))
  } catch (error) {
    const refused = error instanceof CarrierRefused
    if (!refused && attempt < ATTEMPTS) throw error
    app.log.error({ err: error, message_id: id }, 'message given up')
    const why = refused
      ? { code: error.code, reason: error.message }
      : { code: 3007 as const, reason: 'Maximum delivery attempts exceeded' }
    await fail(app, id, why)
  }
}

async function fail(app: App, id: string, why: { code: FailureCode; reason: string }): Promise<void> {
  const at = app.clock.now()
  await inTransaction(app.db, (tx) => move(tx, app, id, { type: 'failed', at, ...why }))
}

/** Safe to repeat: what has happened already changes nothing. An unknown reference is an error, so that it is tried again. */
export async function reportDelivery(app: Reporter, { carrierRef, ...report }: CarrierEvent): Promise<void> {
  await inTransaction(app.db, async (tx) => {
    const message = await findByCarrierRef(tx, 'outbound', carrierRef)
    if (!message) throw new Error(`no message has the carrier reference ${carrierRef}`)
    await move(tx, app, message.id, report)
  })
}

/** The same by our own id, for a carrier that calls messages as we do. Failure message_not_found. */
export async function reportMessage(app: Reporter, id: string, report: Report): Promise<void> {
  await inTransaction(app.db, async (tx) => {
    if (!(await outboundExists(tx, id))) throw new Failure('message_not_found')
    await move(tx, app, id, report)
  })
}

type Reporter = Pick<App, 'db' | 'newId' | 'clock' | 'urls' | 'sandbox' | 'signingKey'>
export type Report = { type: 'sent' | 'delivered' | 'read'; at: number } | Failed
type Failed = { type: 'failed'; at: number; code: FailureCode; reason?: string }

/** From which states each report moves a message on. A message can still be delivered after it was called failed. */
const MOVES: Record<Report['type'], readonly DeliveryStatus[]> = {
  sent: ['pending', 'queued'],
  delivered: ['pending', 'queued', 'sent', 'failed'],
  read: ['pending', 'queued', 'sent', 'delivered', 'failed'],
  failed: ['pending', 'queued', 'sent'],
}

/** One step forward, told to the webhooks when it was one. SMS reports nothing beyond sent (contract 4.7). */
async function move(tx: Db, app: Reporter, id: string, report: Report): Promise<void> {
  const before = await lockOutbound(tx, id)
  if (!before || (before.service === 'SMS' && ['delivered', 'read'].includes(report.type))) return
  const times = {
    sent: { sent_at: before.sent_at ?? report.at },
    delivered: { sent_at: before.sent_at ?? report.at, delivered_at: report.at },
    read: { sent_at: before.sent_at ?? report.at, delivered_at: before.delivered_at ?? report.at, read_at: report.at },
    failed: {},
  }[report.type]
  const change = { delivery_status: report.type, ...times }
  if (!(await moveMessage(tx, id, MOVES[report.type], change))) return
  if (before.deleted_at !== null) return await dropDeleted(tx, id)
  const message = { ...before, ...change }
  const chat = await findChat(tx, message.partner_id, message.chat_id)
  if (!chat) throw new Error(`message ${id} has no chat`)
  if (report.type !== 'failed') {
    await announceMessage(tx, app, `message.${report.type}`, { message, chat })
    return
  }
  const { code, reason = 'Message delivery failed', at: failedAt } = report
  await announceFailure(tx, app, { message, chat }, { code, reason, failedAt })
}

async function toOutbound(app: App, message: MessageRow): Promise<Outbound> {
  const chat = await findChat(app.db, message.partner_id, message.chat_id)
  if (!chat) throw new Error(`message ${message.id} has no chat`)
  const link = linkTo(app)
  const parts = message.parts.flatMap((part): OutboundPart[] => {
    if (part.type === 'text') return [{ type: 'text', text: part.value ?? '' }]
    if (part.type === 'link') return [{ type: 'link', url: part.value ?? '' }]
    const url = part.attachment && link(part.attachment)
    if (!part.attachment || url === undefined) return []
    const { filename, content_type, size_bytes } = part.attachment
    return [{ type: 'media', url, content_type, filename, size_bytes }]
  })
  return {
    id: message.id,
    partnerId: message.partner_id,
    from: chat.phone_number,
    to: recipientsOf(chat),
    service: message.service,
    parts,
  }
}
