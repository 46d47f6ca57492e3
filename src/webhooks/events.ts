/** Pure: which events there are, and the envelope that carries one (contract 5.2 to 5.5). */
import type { Row, WebhookVersion } from '../db/schema.ts'
import { iso } from '../http/schemas.ts'

export const EVENT_TYPES = [
  'message.sent',
  'message.received',
  'message.read',
  'message.delivered',
  'message.failed',
  'message.edited',
  'reaction.added',
  'reaction.removed',
  'participant.added',
  'participant.removed',
  'chat.created',
  'chat.group_name_updated',
  'chat.group_icon_updated',
  'chat.group_name_update_failed',
  'chat.group_icon_update_failed',
  'chat.typing_indicator.started',
  'chat.typing_indicator.stopped',
  'phone_number.status_updated',
  'call.initiated',
  'call.ringing',
  'call.answered',
  'call.ended',
  'call.failed',
  'call.declined',
  'call.no_answer',
  'location.sharing.started',
  'location.sharing.stopped',
] as const
export type EventType = (typeof EVENT_TYPES)[number]

/** Known to an older SDK: taken in a subscription without a word, never listed and never sent. */
export const SILENT_EVENT_TYPES: readonly string[] = ['message.opt_out', 'message.opt_in']

/** Newest first. */
export const WEBHOOK_VERSIONS: readonly WebhookVersion[] = ['2026-02-03', '2025-01-01']

/** The body of a delivery: compact JSON, the same bytes whenever it is made for the same event and version. */
export function envelopeJson(event: Row<'events'>, version: WebhookVersion): string {
  const data = version === '2025-01-01' ? (event.data_2025 ?? event.data) : event.data
  const head = JSON.stringify({
    api_version: 'v3',
    webhook_version: version,
    event_type: event.type,
    event_id: event.id,
    created_at: iso(event.created_at),
    trace_id: event.trace_id,
    partner_id: event.partner_id,
  })
  return `${head.slice(0, -1)},"data":${data}}`
}
