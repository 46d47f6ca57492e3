/** `/v3/webhook-subscriptions` and `/v3/webhook-events`. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { App } from '../app.ts'
import { ERRORS, Ref, Uuid } from '../http/schemas.ts'
import { EVENT_TYPES } from './events.ts'
import { listSubscriptions } from './rows.ts'
import { changeSubscription, createSubscription, deleteSubscription, getSubscription } from './subscribe.ts'
import {
  CreateSubscription,
  createdSubscriptionJson,
  Subscriptions,
  subscriptionJson,
  UpdateSubscription,
  WebhookEvents,
} from './wire.ts'

const Params = Type.Object({ subscriptionId: Uuid })
const tags = ['Webhooks']

export function webhookRoutes(app: App): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.post(
      '/webhook-subscriptions',
      {
        schema: {
          tags,
          summary: 'Subscribe to events',
          description: 'The answer is the only one that shows the signing secret.',
          body: CreateSubscription,
          response: { 201: Ref('CreatedWebhookSubscription'), ...ERRORS },
        },
      },
      async (request, reply) =>
        reply.code(201).send(createdSubscriptionJson(await createSubscription(app, request.partnerId, request.body))),
    )

    api.get(
      '/webhook-subscriptions',
      { schema: { tags, summary: 'List subscriptions', response: { 200: Subscriptions, ...ERRORS } } },
      async (request) => ({
        subscriptions: (await listSubscriptions(app.db, request.partnerId)).map(subscriptionJson),
      }),
    )

    api.get(
      '/webhook-subscriptions/:subscriptionId',
      {
        schema: {
          tags,
          summary: 'Retrieve a subscription',
          params: Params,
          response: { 200: Ref('WebhookSubscription'), ...ERRORS },
        },
      },
      async (request) => subscriptionJson(await getSubscription(app, request.partnerId, request.params.subscriptionId)),
    )

    api.put(
      '/webhook-subscriptions/:subscriptionId',
      {
        schema: {
          tags,
          summary: 'Change a subscription',
          description: 'Absent fields keep their value.',
          params: Params,
          body: UpdateSubscription,
          response: { 200: Ref('WebhookSubscription'), ...ERRORS },
        },
      },
      async (request) => {
        const { partnerId, body: change } = request
        return subscriptionJson(await changeSubscription(app, { partnerId, id: request.params.subscriptionId, change }))
      },
    )

    api.delete(
      '/webhook-subscriptions/:subscriptionId',
      { schema: { tags, summary: 'Unsubscribe', params: Params, response: { 204: Type.Null(), ...ERRORS } } },
      async (request, reply) => {
        await deleteSubscription(app, request.partnerId, request.params.subscriptionId)
        return reply.code(204).send(null)
      },
    )

    api.get(
      '/webhook-events',
      { schema: { tags, summary: 'List event types', response: { 200: WebhookEvents, ...ERRORS } } },
      async () => ({
        events: [...EVENT_TYPES],
        doc_url: 'https://docs.linqapp.com/guides/webhooks/events' as const,
      }),
    )
  }
}
