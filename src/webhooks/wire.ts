/** Webhook subscriptions as they go over the wire (contract 5.1). */
import { type Static, Type } from 'typebox'
import { iso, Nullable, Ref, Time, Uuid } from '../http/schemas.ts'
import { EVENT_TYPES } from './events.ts'
import type { SubscriptionRow } from './rows.ts'

const TargetUrl = Type.String({
  minLength: 1,
  maxLength: 2048,
  examples: ['https://example.com/hooks?version=2026-02-03'],
})
const EventNames = Type.Array(Type.String({ examples: ['message.received'] }), { minItems: 1, maxItems: 100 })
const PhoneNumbers = Nullable(Type.Array(Type.String({ examples: ['+12025550100'] }), { maxItems: 1000 }))

export const CreateSubscription = Type.Object({
  target_url: TargetUrl,
  subscribed_events: EventNames,
  phone_numbers: Type.Optional(PhoneNumbers),
})

export const UpdateSubscription = Type.Object({
  target_url: Type.Optional(TargetUrl),
  subscribed_events: Type.Optional(EventNames),
  phone_numbers: Type.Optional(PhoneNumbers),
  is_active: Type.Optional(Type.Boolean()),
})

const shape = {
  id: Uuid,
  target_url: Type.String(),
  subscribed_events: Type.Array(Type.String()),
  phone_numbers: PhoneNumbers,
  is_active: Type.Boolean(),
  created_at: Time,
  updated_at: Time,
}
export const Subscription = Type.Object(shape, { $id: 'WebhookSubscription' })
export const CreatedSubscription = Type.Object(
  { ...shape, signing_secret: Type.String({ description: 'Shown only now' }) },
  { $id: 'CreatedWebhookSubscription' },
)
export const Subscriptions = Type.Object({
  subscriptions: Type.Array(Ref<Static<typeof Subscription>>('WebhookSubscription')),
})
export const WebhookEvents = Type.Object({
  events: Type.Array(Type.Enum([...EVENT_TYPES])),
  doc_url: Type.Literal('https://docs.linqapp.com/guides/webhooks/events'),
})

export const webhookSchemas = [Subscription, CreatedSubscription]

export function subscriptionJson(row: SubscriptionRow): Static<typeof Subscription> {
  return {
    id: row.id,
    target_url: row.target_url,
    subscribed_events: JSON.parse(row.subscribed_events),
    phone_numbers: row.phone_numbers === null ? null : JSON.parse(row.phone_numbers),
    is_active: row.is_active === 1,
    created_at: iso(row.created_at),
    updated_at: iso(row.updated_at),
  }
}

/** As subscriptionJson, with the secret where the contract's example has it. */
export function createdSubscriptionJson(row: SubscriptionRow): Static<typeof CreatedSubscription> {
  const { id, target_url, ...rest } = subscriptionJson(row)
  return { id, target_url, signing_secret: row.signing_secret, ...rest }
}
