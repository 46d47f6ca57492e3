/** Every webhook that was owed, with the exact request of each attempt; and sending one again. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import type { App } from '../../app.ts'
import type { Row } from '../../db/schema.ts'
import { Failure } from '../../failure.ts'
import { type Page, PageQuery, paginate, parsePage } from '../../http/page.ts'
import { ERRORS, iso, isoOrNull, Nullable, Uuid } from '../../http/schemas.ts'
import { envelopeJson } from '../../webhooks/events.ts'
import { findSubscription, insertDeliveries } from '../../webhooks/rows.ts'

const DEFAULT_PAGE = 20
const tags = ['Sandbox']

const Query = Type.Object({
  ...PageQuery.properties,
  event: Type.Optional(Type.String({ description: 'An event type, or the id of one event' })),
  message: Type.Optional(Type.String({ description: 'A message id' })),
  status: Type.Optional(Type.Enum(['pending', 'delivered', 'failed'])),
})
const Attempt = Type.Object({
  started_at: Type.String(),
  latency_ms: Type.Integer(),
  status: Nullable(Type.Integer()),
  error: Nullable(Type.String()),
  request: Type.Object({ url: Type.String(), headers: Type.Record(Type.String(), Type.String()), body: Type.String() }),
})
const Delivery = Type.Object({
  id: Uuid,
  event_id: Uuid,
  event_type: Type.String(),
  message_id: Nullable(Uuid),
  subscription_id: Uuid,
  status: Type.String(),
  created_at: Type.String(),
  next_attempt_at: Nullable(Type.String()),
  last_error: Nullable(Type.String()),
  attempts: Type.Array(Attempt),
})
const Deliveries = Type.Object({ deliveries: Type.Array(Delivery), next_cursor: Nullable(Type.String()) })

export function deliveryRoutes(app: App): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      '/webhook-deliveries',
      {
        schema: {
          tags,
          summary: 'List webhook deliveries, newest first',
          querystring: Query,
          response: { 200: Deliveries, ...ERRORS },
        },
      },
      async (request) => {
        const page = parsePage(request.query, DEFAULT_PAGE)
        const found = await listDeliveries(app, request.partnerId, request.query, page)
        const { rows, next_cursor } = paginate(found, page.limit, (row) => ({ at: row.created_at, id: row.id }))
        return { deliveries: await withAttempts(app, rows), next_cursor }
      },
    )

    api.post(
      '/webhook-deliveries/:deliveryId/replay',
      {
        schema: {
          tags,
          summary: 'Deliver an event once more',
          params: Type.Object({ deliveryId: Uuid }),
          response: { 202: Type.Object({ delivery_id: Uuid }), ...ERRORS },
        },
      },
      async (request, reply) => {
        const id = await replay(app, request.partnerId, request.params.deliveryId.toLowerCase())
        return reply.code(202).send({ delivery_id: id })
      },
    )
  }
}

type Listed = Row<'webhook_deliveries'> & Pick<Row<'events'>, 'type' | 'message_id'>

async function listDeliveries(
  app: App,
  partnerId: string,
  filter: Static<typeof Query>,
  page: Page,
): Promise<Listed[]> {
  let query = app.db
    .selectFrom('webhook_deliveries as d')
    .innerJoin('events as e', 'e.id', 'd.event_id')
    .selectAll('d')
    .select(['e.type', 'e.message_id'])
    .where('d.partner_id', '=', partnerId)
  const { event, message, status } = filter
  if (event !== undefined) query = query.where((eb) => eb.or([eb('e.type', '=', event), eb('e.id', '=', event)]))
  if (message !== undefined) query = query.where('e.message_id', '=', message.toLowerCase())
  if (status !== undefined) query = query.where('d.status', '=', status)
  const { after } = page
  if (after) query = query.where('d.id', '<', after.id)
  return await query
    .orderBy('d.id', 'desc')
    .limit(page.limit + 1)
    .execute()
}

async function withAttempts(app: App, rows: Listed[]): Promise<Static<typeof Delivery>[]> {
  if (rows.length === 0) return []
  const ids = rows.map((row) => row.id)
  const attempts = await app.db
    .selectFrom('webhook_attempts')
    .selectAll()
    .where('delivery_id', 'in', ids)
    .orderBy('id')
    .execute()
  const eventIds = [...new Set(rows.map((row) => row.event_id))]
  const events = await app.db.selectFrom('events').selectAll().where('id', 'in', eventIds).execute()
  const eventById = new Map(events.map((event) => [event.id, event]))
  const byDelivery = Map.groupBy(attempts, (attempt) => attempt.delivery_id)
  return rows.map((row) => ({
    id: row.id,
    event_id: row.event_id,
    event_type: row.type,
    message_id: row.message_id,
    subscription_id: row.subscription_id,
    status: row.status,
    created_at: iso(row.created_at),
    next_attempt_at: row.status === 'pending' ? iso(row.next_attempt_at) : isoOrNull(null),
    last_error: row.last_error,
    attempts: (byDelivery.get(row.id) ?? []).map((attempt) => attemptJson(attempt, eventById.get(row.event_id))),
  }))
}

function attemptJson(attempt: Row<'webhook_attempts'>, event: Row<'events'> | undefined): Static<typeof Attempt> {
  const headers = JSON.parse(attempt.headers) as Record<string, string>
  const version = headers['x-webhook-payload-version'] === '2025-01-01' ? '2025-01-01' : '2026-02-03'
  const { started_at, latency_ms, status, error, url } = attempt
  const body = event ? envelopeJson(event, version) : ''
  return { started_at: iso(started_at), latency_ms, status, error, request: { url, headers, body } }
}

async function replay(app: App, partnerId: string, id: string): Promise<string> {
  const delivery = await app.db
    .selectFrom('webhook_deliveries')
    .selectAll()
    .where('id', '=', id)
    .where('partner_id', '=', partnerId)
    .executeTakeFirst()
  if (!delivery) throw new Failure('not_found', 'Webhook delivery not found')
  const subscription = await findSubscription(app.db, delivery.subscription_id)
  if (!subscription?.is_active) throw new Failure('conflict', 'The subscription is gone or switched off')
  const now = app.clock.now()
  const fresh = { status: 'pending' as const, attempts: 0, next_attempt_at: now, leased_until: 0, last_error: null }
  const again = { ...delivery, ...fresh, id: app.newId(), created_at: now, finished_at: null }
  await insertDeliveries(app.db, [again])
  return again.id
}
