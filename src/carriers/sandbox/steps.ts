/** The job sandbox.report: what the pretend network planned for a message comes true. */
import type { App } from '../../app.ts'
import { findChat } from '../../chats/rows.ts'
import { recipientsOf } from '../../chats/wire.ts'
import { newTraceId } from '../../ids.ts'
import type { Payload } from '../../jobs/jobs.ts'
import { reportDelivery } from '../../messages/deliver.ts'
import { receiveMessage } from '../../messages/receive.ts'
import { findOutbound, outboundExists } from '../../messages/rows.ts'

/** A step that overtook an earlier one, on another worker or after a crash, makes up for it: what was said is not said again. */
const BEFORE: Record<Payload['sandbox.report']['type'], readonly ('sent' | 'delivered')[]> = {
  sent: [],
  failed: ['sent'],
  delivered: ['sent'],
  read: ['sent', 'delivered'],
  reply: ['sent', 'delivered'],
}

/** Safe to repeat. A message that was deleted meanwhile has no future. */
export async function carryOut(app: App, step: Payload['sandbox.report']): Promise<void> {
  if (!(await outboundExists(app.db, step.message_id))) return
  const report = { carrierRef: step.message_id, at: app.clock.now() }
  for (const type of BEFORE[step.code === 3007 ? 'sent' : step.type]) await reportDelivery(app, { ...report, type })
  if (step.type === 'failed' || (step.type === 'delivered' && step.code !== undefined)) {
    await reportDelivery(app, { ...report, type: 'failed', code: step.code ?? 4001 })
  }
  if (step.type === 'failed') return
  if (step.type !== 'reply') await reportDelivery(app, { ...report, type: step.type })
  else await reply(app, step.message_id)
}

async function reply(app: App, messageId: string): Promise<void> {
  const message = await findOutbound(app.db, messageId)
  const chat = message && (await findChat(app.db, message.partner_id, message.chat_id))
  const [from] = chat ? recipientsOf(chat) : []
  if (!message || !chat || !from) return
  const text = message.parts.find((part) => part.type !== 'media')?.value ?? 'Got it'
  const about = { from, to: chat.phone_number, text, files: [], service: message.service, sentAt: app.clock.now() }
  await receiveMessage(app, { ...about, carrierRef: `${messageId}:reply`, traceId: newTraceId() })
}
